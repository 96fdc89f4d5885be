package core

import (
	"bytes"

	"moorage/core/index"
	"moorage/core/tensor"
	"moorage/core/tier/timing"
)

// Remove takes the name away at once; the bytes go when the last view goes.
func (s *Store) Remove(key []byte) error { return s.remove(key, 0) }

func (s *Store) remove(key []byte, since int64) (err error) {
	p := s.at(key)
	if !p.enter(s) {
		return fail("remove", ErrClosed)
	}
	defer p.leave()
	var r timing.Record
	if s.tiered != nil {
		r = timing.Queued(timing.Remove, since)
		defer func() { s.tiered.recordFound(&r, err) }()
	}
	p.mu.Lock()
	unit := p.table.Lookup(p.tag, key)
	onDisk := s.removeOnDisk(key)
	if unit == 0 && !onDisk {
		p.mu.Unlock()
		return ErrNotFound
	}
	s.takeName(p, unit)
	p.mu.Unlock()
	if unit != 0 {
		s.unlinked(unit)
		s.tidy()
	}
	if s.tiered != nil {
		return s.settled("remove", &r) // also of an object that was on its way to disk
	}
	return nil
}

// takeName takes the name from a unit, 0 when only the disk had the object, and counts that. The shard is locked.
func (s *Store) takeName(p at, unit uint32) {
	if unit == 0 {
		p.count.removes++
		return
	}
	p.table.Delete(p.tag, unit)
	s.countRemoved(p.shard, unit)
}

func (s *Store) countRemoved(p *shard, unit uint32) {
	p.count.removes++
	c := s.heap.At(unit)
	if s.heap.BodyAt(c.Body).Pinned != 0 {
		p.count.pin(c.Bytes, false)
	}
}

// Clear removes every object that was there when it reached its shard, and says how many.
func (s *Store) Clear() (removed uint64, err error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return 0, fail("clear", ErrClosed)
	}
	defer gate.leave()
	upTo := s.seq.Load()
	type name struct{ tag, unit uint32 }
	var batch []name
	for i := range s.shards {
		p := &s.shards[i]
		for cursor, done := uint64(0), false; !done; {
			batch = batch[:0]
			p.mu.Lock()
			cursor, done = p.table.Scan(cursor, func(tag, unit uint32) bool {
				batch = append(batch, name{tag, unit})
				return len(batch) < 1024
			})
			for _, n := range batch {
				s.removeOnDisk(index.Key(s.heap.BodyAt(s.heap.At(n.unit).Body)))
				p.table.Delete(n.tag, n.unit)
				s.countRemoved(p, n.unit)
			}
			p.mu.Unlock()
			for _, n := range batch {
				s.unlinked(n.unit)
			}
			removed += uint64(len(batch))
		}
	}
	s.drain()
	if s.tiered != nil {
		n, err := s.clearDisk(upTo)
		return removed + n, err
	}
	return removed, nil
}

// Exists reports whether there is an object under key. It is not an access.
func (s *Store) Exists(key []byte) (bool, error) { return s.exists(key, 0) }

func (s *Store) exists(key []byte, since int64) (bool, error) {
	if s.tiered != nil {
		r := timing.Queued(timing.Exists, since)
		defer s.tiered.record(&r, nil)
	}
	p := s.at(key)
	if !p.enter(s) {
		return false, fail("exists", ErrClosed)
	}
	defer p.leave()
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table.Lookup(p.tag, key) != 0 || s.onDisk(key), nil
}

// Pin protects a name from eviction, or ends that. The pin follows the name through replace.
func (s *Store) Pin(key []byte, pinned bool) error {
	p := s.at(key)
	if !p.enter(s) {
		return fail("pin", ErrClosed)
	}
	defer p.leave()
	if s.onDisk(key) && pinned {
		v, err := s.bring(key)
		if err != nil {
			return err
		}
		defer v.Release() // it stays in memory until it is pinned
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unit := p.table.Lookup(p.tag, key)
	if unit == 0 {
		if !pinned && s.onDisk(key) {
			return nil
		}
		return ErrNotFound
	}
	c := s.heap.At(unit)
	b := s.heap.BodyAt(c.Body)
	if (b.Pinned != 0) == pinned {
		return nil
	}
	b.Pinned = 0
	if pinned {
		b.Pinned = 1
	}
	p.count.pin(c.Bytes, pinned)
	return nil
}

// Description is what is known of an object. Shape and Meta are copies.
type Description struct {
	Size, Extent    uint64 // bytes of the object, and of the memory it occupies
	Seq, Views      uint64
	Tensor          bool
	DType           tensor.DType
	Shape           []int64
	Meta            []byte
	Pinned, Adopted bool
	OnDisk          bool // memory does not have it
}

// Describe says what is known of the object under key. It is not an access.
func (s *Store) Describe(key []byte) (Description, error) {
	p := s.at(key)
	if !p.enter(s) {
		return Description{}, fail("describe", ErrClosed)
	}
	defer p.leave()
	p.mu.RLock()
	defer p.mu.RUnlock()
	unit := p.table.Lookup(p.tag, key)
	if unit == 0 {
		return s.describeOnDisk(key)
	}
	c := s.heap.At(unit)
	b := s.heap.BodyAt(c.Body)
	return Description{
		Size: c.Bytes, Extent: s.arena.Len(c.Block), Seq: c.Seq, Views: c.Views(),
		Tensor: b.Tensor != 0, DType: dtypeOf(b), Shape: append([]int64(nil), index.Shape(b)...),
		Meta: bytes.Clone(index.Meta(b)), Pinned: b.Pinned != 0, Adopted: c.Flags&flagAdopted != 0,
	}, nil
}

// ListEnd is the cursor behind the last key.
const ListEnd = ^uint64(0)

// List gives keys that start with prefix to visit, from a cursor on that begins at 0, and returns the cursor to go on from,
// ListEnd at the end. Each key that is there throughout comes exactly once; with a disk, one that moves between memory and
// disk meanwhile may come twice. Keys come in groups, nearly always of one; when visit returns false its group does not
// count as visited. visit is called under a lock and must not call the store; the keys are valid during the call. One call
// looks at a bounded number of names.
func (s *Store) List(prefix []byte, cursor uint64, visit func(group [][]byte) bool) (next uint64, err error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return cursor, fail("list", ErrClosed)
	}
	defer gate.leave()
	if s.tiered != nil {
		return s.listBoth(prefix, cursor, visit), nil
	}
	return s.listMemory(prefix, cursor, visit), nil
}

// listMemory is List of what memory has.
func (s *Store) listMemory(prefix []byte, cursor uint64, visit func(group [][]byte) bool) (next uint64) {
	number := cursor >> 33
	if number >= index.Shards {
		return ListEnd
	}
	p := &s.shards[number]
	p.mu.RLock()
	defer p.mu.RUnlock()
	l := listing{s: s, prefix: prefix, visit: visit}
	at, done := p.table.Scan(cursor&(1<<33-1), l.name)
	switch {
	case !l.flush():
		return number<<33 | uint64(l.tag)
	case !done:
		return number<<33 | at
	case number+1 == index.Shards:
		return ListEnd
	}
	return (number + 1) << 33
}

// listing collects the names with equal tags: a cursor cannot point between them.
type listing struct {
	s      *Store
	prefix []byte
	visit  func(group [][]byte) bool
	group  [][]byte
	tag    uint32
	full   bool
}

func (l *listing) name(tag, unit uint32) bool {
	if tag != l.tag && !l.flush() {
		return false
	}
	l.tag = tag
	if key := index.Key(l.s.heap.BodyAt(l.s.heap.At(unit).Body)); bytes.HasPrefix(key, l.prefix) {
		l.group = append(l.group, key)
	}
	return true
}

// flush offers the group. False: it was refused, and tag is where to go on.
func (l *listing) flush() bool {
	if len(l.group) > 0 && !l.full {
		l.full = !l.visit(l.group)
		l.group = l.group[:0]
	}
	return !l.full
}
