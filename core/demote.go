package core

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"moorage/core/evict"
	"moorage/core/index"
	"moorage/core/tier/timing"
)

// demotions are the objects that are being written to disk to make room. Who finds nothing to demote waits for the end of
// one of them before the store counts as full.
type demotions struct {
	mu       sync.Mutex
	ended    sync.Cond
	underWay int
	count    uint64         // how many ended
	units    map[uint32]int // records that are viewed because they are being written, and how often
}

const (
	demoteBytes = 4 << 20 // what is written at once, at least, where there is so much
	demoteMost  = 64      // objects at once
	demoteDepth = 8       // of them at a time
)

// makeRoom lets objects go, on disk before where there is one, so that size bytes may be free then. False: nothing can
// go. err says why the disk did not take what could have gone.
func (s *Store) makeRoom(size uint64) (more bool, err error) {
	if s.tiered == nil {
		return s.evictOne(), nil
	}
	d := &s.tiered.demotions
	before := d.begin()
	victims, freed := s.victims(size)
	if len(victims) == 0 && !freed {
		return d.endOrWait(before), nil
	}
	defer d.end()
	errs := s.demote(victims)
	for _, e := range errs {
		if e == nil {
			freed = true
		} else {
			err = e
		}
	}
	return freed, err
}

func (d *demotions) begin() (before uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay++
	return d.count
}

func (d *demotions) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay--
	d.count++
	d.ended.Broadcast()
}

// endOrWait is end for who had nothing to do: it waits until one of the others ended, if there is any. False: there is none.
func (d *demotions) endOrWait(before uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay--
	d.ended.Broadcast() // who else has nothing to do must not wait for us
	for d.count == before && d.underWay > 0 {
		d.ended.Wait()
	}
	return d.count != before
}

// writing is told of a view that is there for a write, under the lock of the object's shard: who cannot take the object may wait.
func (d *demotions) writing(v View) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.units[v.unit]++
}

// written ends such a view.
func (d *demotions) written(v View) {
	unit := v.unit
	v.Release()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.units[unit]--; d.units[unit] == 0 {
		delete(d.units, unit)
	}
	d.ended.Broadcast()
}

// isWriting says whether a unit is being written. Its shard is locked.
func (d *demotions) isWriting(unit uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.units[unit] > 0
}

// await waits until nobody writes a unit.
func (d *demotions) await(unit uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.units[unit] > 0 {
		d.ended.Wait()
	}
}

// all are the units that are being written.
func (d *demotions) all() map[uint32]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.units)
}

// toWrite is an object that has to be written before it may go. The view keeps its bytes.
type toWrite struct {
	candidate evict.Candidate
	view      View
}

// victims drops what the disk has, and collects what it does not have yet, until that is size bytes.
func (s *Store) victims(size uint64) (dirty []toWrite, freed bool) {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	met := false
	for got := uint64(0); len(dirty) < demoteMost && (got < size || len(dirty) > 0 && got < demoteBytes); {
		c, ok := s.policy.q.Next()
		if !ok && !met { // the end of a round that began before: things may have changed since
			c, ok = s.policy.q.Next()
		}
		if met = true; !ok {
			break
		}
		verdict, v := s.tryEvict(c)
		if verdict == unwritten {
			dirty = append(dirty, toWrite{c, v})
		} else if s.answer(c, verdict); verdict != dropped {
			continue
		}
		freed = freed || verdict == dropped
		got += c.Bytes
	}
	return dirty, freed
}

// demote writes objects to disk, several at a time, and drops them where nobody has come to view them meanwhile.
func (s *Store) demote(victims []toWrite) []error {
	errs := make([]error, len(victims))
	each(len(victims), demoteDepth, func(i int) { errs[i] = s.demoteOne(victims[i]) })
	return errs
}

func (s *Store) demoteOne(x toWrite) error {
	err := s.writeOutTimed("demote", timing.Demote, timing.Background, x.view)
	s.tiered.demotions.written(x.view)
	verdict := retained
	if err == nil {
		s.tiered.count.demoted.Add(1)
		if verdict, x.view = s.tryEvict(x.candidate); verdict == unwritten { // again: the disk has evicted it
			s.tiered.demotions.written(x.view)
		}
	}
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	s.answer(x.candidate, verdict)
	return err
}

// writeOut brings an object that somebody views to disk, and tells the disk that memory has it as well. What was replaced or
// removed meanwhile does not get there.
func (s *Store) writeOut(op string, v View, r *timing.Record) error {
	t, key, size, began := s.tiered, v.Key(), v.Size(), timing.Now()
	draft, err := t.disk.Reserve(key, v.Seq(), size)
	if err != nil {
		return fail(op, classifyDisk(err, key))
	}
	defer draft.Drop()
	if s.fulfil(v.unit) {
		defer func() {
			if !t.disk.HasSeq(key, v.Seq()) {
				s.renew(v.unit, size)
			}
		}()
	}
	if !s.leads(v) { // a removal before Reserve has not ended the draft
		return nil
	}
	r.BufferWait += timing.Now() - began
	from := s.diskMemory(s.arena.WriterAddr(v.c.Off), s.arena.Len(v.c.Block))
	io, err := draft.Write(t.ctx, from)
	endParts(from)
	addIO(r, &io)
	if err != nil {
		return fail(op, classifyDisk(err, key))
	}
	stored, err := draft.Commit(v.content())
	addSync(r, draft, t.opts.Durability)
	if err != nil {
		return fail(op, classifyDisk(err, key))
	}
	if stored {
		s.noteResident(v)
	}
	return nil
}

// writeOutTimed is writeOut as an operation of its own.
func (s *Store) writeOutTimed(op string, kind timing.Kind, class timing.Class, v View) error {
	r := timing.Queued(kind, 0)
	r.Class = class
	err := s.writeOut(op, v, &r)
	s.tiered.record(&r, err)
	return err
}

// noteResident tells the disk that memory has the object too, while it does.
func (s *Store) noteResident(v View) {
	p := s.at(v.Key())
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.table.Lookup(p.tag, v.Key()) == v.unit {
		s.tiered.disk.SetResident(v.Key(), v.Seq(), true)
	}
}

// leads reports whether the name of a view's object still leads to it.
func (s *Store) leads(v View) bool {
	p := s.at(v.Key())
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table.Lookup(p.tag, v.Key()) == v.unit
}

func (v View) content() index.Content {
	b := v.body()
	return index.Content{
		Key: index.Key(b), Meta: index.Meta(b), Tensor: b.Tensor != 0,
		Code: b.DCode, Bits: b.DBits, Lanes: b.DLanes, Shape: index.Shape(b),
	}
}

// Persist is PersistEach of one object.
func (s *Store) Persist(key []byte) error { return s.persistOne(key, timing.Now()) }

func (s *Store) persistOne(key []byte, since int64) error {
	errs, err := s.persistEach(1, func(int) []byte { return key }, since)
	if err != nil {
		return err
	}
	return errs[0]
}

// PersistEach brings the objects under n keys to disk, and returns when they would survive a loss of power: an error a key, or
// one of all, when nothing is known of any.
func (s *Store) PersistEach(n int, key func(i int) []byte) (errs []error, err error) {
	return s.persistEach(n, key, timing.Now())
}

// persistEach has a record for each object that memory has, with its wait for the others since a time.
func (s *Store) persistEach(n int, key func(i int) []byte, since int64) (errs []error, err error) {
	const op = "persist"
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail(op, ErrClosed)
	}
	defer gate.leave()
	if s.tiered == nil {
		return nil, fail(op, errNoDisk)
	}
	errs = make([]error, n)
	each(n, demoteDepth, func(i int) {
		r := timing.Queued(timing.Persist, since)
		errs[i] = s.persist(op, key(i), &r)
		s.tiered.recordFound(&r, errs[i])
	})
	if err := s.sync(op); err != nil {
		return nil, err
	}
	return errs, nil
}

var errNoDisk = fmt.Errorf("%w: the store has no disk; open it with a directory", ErrUnsupported)

func (s *Store) sync(op string) error {
	r := timing.Queued(timing.Flush, 0)
	began := timing.Now()
	err := s.tiered.disk.Sync()
	s.tiered.synced(&r, began)
	if err != nil {
		err = fail(op, classifyDisk(err, nil))
	}
	s.tiered.record(&r, err)
	return err
}

// each runs do for 0 to n-1, several at a time.
func each(n, atOnce int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, atOnce) {
		workers.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				do(i - 1)
			}
		})
	}
	workers.Wait()
}

// persist writes out what memory has under a key. Nothing is done where the disk has it.
func (s *Store) persist(op string, key []byte, r *timing.Record) error {
	p := s.at(key)
	v, resident := s.resident(p, key)
	if !resident {
		if s.onDisk(key) {
			return nil
		}
		return failf(op, ErrNotFound, "key %q", key)
	}
	defer v.Release()
	if s.tiered.disk.HasSeq(key, v.Seq()) {
		return nil
	}
	return s.writeOut(op, v, r)
}

// Flush is Persist of every object that was there when it began.
func (s *Store) Flush() error {
	const op = "flush"
	gate := s.anyShard()
	if !gate.enter(s) {
		return fail(op, ErrClosed)
	}
	defer gate.leave()
	if s.tiered == nil {
		return fail(op, errNoDisk)
	}
	var errs []error
	for i := range s.shards {
		p := &s.shards[i]
		for cursor, done := uint64(0), false; !done; {
			var views []View
			p.mu.RLock()
			cursor, done = p.table.Scan(cursor, func(_, unit uint32) bool {
				v := View{s, s.heap.At(unit), unit}
				v.c.Acquire(s.words)
				views = append(views, v)
				return len(views) < scanPiece
			})
			p.mu.RUnlock()
			errs = append(errs, s.flushed(op, views))
		}
		if s.closed.Load() != 0 {
			return fail(op, ErrCancelled)
		}
	}
	return errors.Join(append(errs, s.sync(op))...)
}

// flushed writes out what the disk does not have of these, and lets all go.
func (s *Store) flushed(op string, views []View) error {
	errs := make([]error, len(views))
	each(len(views), demoteDepth, func(i int) {
		if v := &views[i]; !s.tiered.disk.HasSeq(v.Key(), v.Seq()) {
			errs[i] = s.writeOutTimed(op, timing.Persist, timing.OK, *v)
		}
		views[i].Release()
	})
	return errors.Join(errs...)
}
