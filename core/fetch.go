package core

import (
	"errors"
	"sync"

	"moorage/core/index"
	"moorage/core/tier"
	"moorage/core/tier/timing"
)

// flights are the reads from disk that are under way, one an object: who asks for the same one waits for its end, and
// shares what it brings.
type flights struct {
	mu  sync.Mutex
	all map[flightName]*flight
}

type flightName struct {
	key   string
	seq   uint64
	named bool
}

type flight struct {
	waiting int           // guarded by flights.mu
	done    chan struct{} // closed behind the fields below
	view    View          // counted once for each who waits
	err     error
	stamps  timing.Stamps
}

// Get borrows the object under key, from disk when memory does not have it. ErrNotFound and ErrClosed come unwrapped;
// what memory has costs no allocation and no copy.
func (s *Store) Get(key []byte) (View, error) {
	v, err := s.GetResident(key)
	if err == ErrNotResident {
		return s.fetch(timing.Get, key, false, 0)
	}
	return v, err
}

// getQueued is Get of who waits for his turn since a time. kind is what it counts as; named: what is on disk comes into memory
// under its name, whatever the option says.
func (s *Store) getQueued(kind timing.Kind, key []byte, named bool, since int64) (View, error) {
	if s.tiered == nil {
		return s.get(key)
	}
	v, err := s.getTimed(kind, key, since)
	if err == ErrNotResident {
		return s.fetch(kind, key, named, since)
	}
	return v, err
}

// fetch brings an object in from the disk; named, under its name whatever the option says.
func (s *Store) fetch(kind timing.Kind, key []byte, named bool, since int64) (View, error) {
	p := s.at(key)
	if !p.enter(s) {
		return View{}, ErrClosed
	}
	defer p.leave()
	r := timing.Queued(kind, since)
	for {
		if v, found, err := s.tryFetch(p, key, named, &r); found {
			if err == nil {
				p.gets.Add(1)
			}
			s.tiered.record(&r, err)
			return v, err
		}
		// Memory was looked at, then the disk: so nothing that goes from the one to the other is missed.
		if !s.onDisk(key) {
			p.misses.Add(1)
			return View{}, ErrNotFound
		}
	}
}

func (s *Store) tryFetch(p at, key []byte, named bool, r *timing.Record) (v View, found bool, err error) {
	began := timing.Now()
	e, ok := s.tiered.disk.Lookup(key)
	if ok {
		defer e.Release()
	}
	if v, resident := s.resident(p, key); resident || !ok {
		if resident {
			r.Bytes, r.Stamps = v.Size(), timing.Hit(r.T0, 0)
		}
		return v, resident, nil // it came meanwhile, or went
	}
	r.Lookup += timing.Now() - began
	v, err = s.share(p, e, named, r)
	return v, true, err
}

// resident borrows what memory has.
func (s *Store) resident(p at, key []byte) (View, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	unit := p.table.Lookup(p.tag, key)
	if unit == 0 {
		return View{}, false
	}
	return s.borrow(unit), true
}

// borrow counts a view. The shard is locked.
func (s *Store) borrow(unit uint32) View {
	c := s.heap.At(unit)
	c.Acquire(s.words)
	if s.policy.on {
		c.Touch()
	}
	return View{s, c, unit}
}

// share reads an object, or waits for whoever does.
func (s *Store) share(p at, e *tier.Entry, named bool, r *timing.Record) (View, error) {
	t := &s.tiered.flights
	name := flightName{string(e.Key()), e.Seq(), named}
	t.mu.Lock()
	if f := t.all[name]; f != nil {
		f.waiting++
		t.mu.Unlock()
		<-f.done
		s.tiered.count.shared.Add(1)
		r.Bytes = e.Bytes()
		r.Follow(f.stamps, timing.Now())
		return f.view, f.err
	}
	f := &flight{done: make(chan struct{}), err: ErrCancelled}
	t.all[name] = f
	t.mu.Unlock()
	defer s.land(name, f, r)
	f.view, f.err = s.readIn(p, e, named, r)
	return f.view, f.err
}

// land counts a view for each who waits, and wakes them.
func (s *Store) land(name flightName, f *flight, r *timing.Record) {
	t := &s.tiered.flights
	t.mu.Lock()
	delete(t.all, name)
	f.stamps = r.Stamps
	if f.err == nil {
		for range f.waiting {
			f.view.c.Acquire(s.words) // the reader's own view keeps it alive
		}
	}
	t.mu.Unlock()
	close(f.done)
}

// readIn reads an object into memory of its own and gives it its name, unless that was taken meanwhile or is not wanted.
func (s *Store) readIn(p at, e *tier.Entry, named bool, r *timing.Record) (View, error) {
	const op = "get"
	content := e.Content()
	body, err := index.BodyBytes(len(e.Key()), len(content.Shape), len(content.Meta))
	if err != nil {
		return View{}, failf(op, ErrDamaged, "key %q: %w", e.Key(), err)
	}
	began := timing.Now()
	d, err := s.draftOfDisk(op, p, e.Bytes(), body, false)
	if err != nil {
		return View{}, err
	}
	if err := s.heap.WriteBody(d.c.Body, content); err != nil {
		s.drop(d)
		return View{}, failf(op, ErrDamaged, "key %q: %w", e.Key(), err)
	}
	r.BufferWait = timing.Now() - began
	to := s.diskMemory(s.arena.WriterAddr(d.c.Off), s.arena.Len(d.c.Block))
	err = s.readDisk(op, e, to, 0, e.Bytes(), r)
	endParts(to)
	if err != nil {
		s.drop(d)
		return View{}, err
	}
	v, ours := s.promote(p, e, d, named)
	if !ours {
		s.drop(d)
	}
	return v, nil
}

// promote makes an object of what was read, under its name if it is to have that. ours is false when the name was taken
// meanwhile, and the view is of what has it now.
func (s *Store) promote(p at, e *tier.Entry, d draft, named bool) (v View, ours bool) {
	t := s.tiered
	named = named || t.opts.Promote == PromoteAlways || t.opts.Promote == PromoteSecondHit && e.Touch() > 1
	p.mu.Lock()
	if unit := p.table.Lookup(p.tag, e.Key()); unit != 0 {
		v := s.borrow(unit)
		p.mu.Unlock()
		return v, false
	}
	t.moves.Add(1) // before the disk is told: see listBoth
	named = named && p.table.Reserve() == nil && t.disk.SetResident(e.Key(), e.Seq(), true)
	d.c.Begin(s.words)
	d.c.Seq = e.Seq()
	v = s.borrow(d.unit)
	if named {
		_ = p.table.Insert(p.tag, d.unit) // room was reserved
	}
	p.mu.Unlock()
	if !named {
		s.kill(d.unit)
		return v, true
	}
	t.count.promoted.Add(1)
	s.added(evictCandidate(d.unit, e.Seq(), e.Bytes(), p.hash))
	return v, true
}

// readDisk reads n bytes of an object, from offset off on.
func (s *Store) readDisk(op string, e *tier.Entry, to tier.Memory, off, n uint64, r *timing.Record) error {
	t := s.tiered
	io, err := t.disk.Read(t.ctx, e, to, off, n)
	addIO(r, &io)
	var damaged *tier.DamagedError
	if errors.As(err, &damaged) && !damaged.Promised {
		return ErrNotFound // nobody was told that it would outlive what has happened
	}
	if err != nil {
		return fail(op, classifyDisk(err, e.Key()))
	}
	return nil
}

// ReadInto reads n bytes of the object under key, from offset off on, from the disk straight to addr, which has room bytes
// and stays there until it returns. The object does not come into memory. done is false when memory has the object, or
// when it is not as the caller thinks: then nothing was read.
func (s *Store) ReadInto(key []byte, off, n uint64, addr uintptr, room uint64) (copied uint64, done bool, err error) {
	return s.readInto(key, off, n, addr, room, 0)
}

func (s *Store) readInto(key []byte, off, n uint64, addr uintptr, room uint64, since int64) (copied uint64, done bool, err error) {
	const op = "get into"
	p := s.at(key)
	if !p.enter(s) {
		return 0, false, fail(op, ErrClosed)
	}
	defer p.leave()
	if s.tiered == nil || s.inMemory(p, key) {
		return 0, false, nil
	}
	r, began := timing.Queued(timing.GetInto, since), timing.Now()
	e, ok := s.tiered.disk.Lookup(key)
	if !ok {
		return 0, false, nil
	}
	defer e.Release()
	if off > e.Bytes() {
		return 0, false, nil
	}
	if n == All {
		n = e.Bytes() - off
	}
	if n > e.Bytes()-off || n > room {
		return 0, false, nil
	}
	r.Lookup = timing.Now() - began
	to := s.diskMemory(addr, n)
	err = s.readDisk(op, e, to, off, n, &r)
	endParts(to)
	s.tiered.record(&r, err)
	if err != nil {
		return 0, true, err
	}
	p.gets.Add(1)
	return n, true, nil
}

func (s *Store) inMemory(p at, key []byte) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table.Lookup(p.tag, key) != 0
}

// diskMemory is memory as the disk wants it, in registered parts where it is registered. End them with endParts.
func (s *Store) diskMemory(addr uintptr, n uint64) tier.Memory {
	m := tier.Memory{Addr: addr, Room: n}
	if n == 0 {
		return m
	}
	if parts, err := s.registry.Acquire(s.tiered.buffers, addr, n, nil); err == nil { // else it is pinned for the transfer
		m.Parts = parts
	}
	return m
}

func endParts(m tier.Memory) {
	for i := range m.Parts {
		m.Parts[i].End()
	}
}
