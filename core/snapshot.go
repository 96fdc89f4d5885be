package core

import (
	"bytes"
	"errors"
	"slices"
)

// scanPiece is how many names a scan of all looks at under a shard's lock.
const scanPiece = 128

// Snapshot borrows the object under every key, at one moment as far as sets are concerned: of a set it has all or
// nothing. Objects that are put one by one are each as they were at some time during the call. The views are the
// caller's, in the order of the keys. ErrNotFound names the first key that is missing; nothing is borrowed then.
func (s *Store) Snapshot(keys [][]byte) ([]View, error) {
	const op = "snapshot"
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail(op, ErrClosed)
	}
	defer gate.leave()
	views := make([]View, len(keys))
	var failed error
	s.GetEach(len(keys), func(i int) []byte { return keys[i] }, func(i int, v View, err error) {
		views[i] = v
		if err != nil && failed == nil {
			failed = failf(op, err, "key %q", keys[i])
			if errors.Is(err, ErrClosed) { // after we were let in
				failed = fail(op, ErrCancelled)
			}
		}
	})
	if failed != nil {
		releaseAll(views)
		return nil, failed
	}
	return views, nil
}

// GetEach is Get of n keys, at one moment as far as sets are concerned: give gets a view or an error for each, in their
// order. It is called while sets wait, and must not call the store.
func (s *Store) GetEach(n int, key func(i int) []byte, give func(i int, v View, err error)) {
	if s.tiered != nil {
		s.getEachOfDisk(n, key, give)
		return
	}
	s.BetweenSets(func() {
		for i := range n {
			v, err := s.GetResident(key(i))
			give(i, v, err)
		}
	})
}

// SnapshotPrefix is Snapshot of all keys that start with prefix, in no order. It goes through all names, in pieces of a
// fraction of a millisecond, and holds up nobody between them.
func (s *Store) SnapshotPrefix(prefix []byte) ([]View, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail("snapshot", ErrClosed)
	}
	defer gate.leave()
	c := &scan{prefix: prefix}
	s.sets.begin(c)
	for i := range s.shards {
		if s.closed.Load() != 0 { // close waits for us
			break
		}
		c.shard(s, &s.shards[i])
	}
	var err error
	if s.tiered != nil {
		err = c.scanDisk(s)
	}
	views := s.settle(c)
	if s.closed.Load() != 0 {
		err = fail("snapshot", ErrCancelled)
	}
	if err != nil {
		releaseAll(views)
		return nil, err
	}
	return views, nil
}

func releaseAll(views []View) {
	for i := range views {
		views[i].Release()
	}
}

// scan is a snapshot on its way through the names. It borrows what it meets; what sets publish meanwhile they also note
// in its log, and that is looked up again in the end, when no set is being published.
type scan struct {
	prefix []byte
	units  [][]uint32          // of which it holds a view
	log    map[string]struct{} // guarded by sets.mu until the end
}

func (t *sets) begin(c *scan) {
	t.lock.RLock() // not in the middle of a set, whose first half would not be in the log
	defer t.lock.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scans = append(t.scans, c)
}

func (t *sets) end(c *scan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scans = slices.DeleteFunc(t.scans, func(x *scan) bool { return x == c })
}

// note tells the scans of the names that a set is about to publish. lock is held.
func (t *sets) note(set []*member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.scans {
		for _, m := range set {
			if bytes.HasPrefix(m.key, c.prefix) {
				c.note(m.key)
			}
		}
	}
}

// note keeps each name once: a scan may be long, and sets many.
func (c *scan) note(key []byte) {
	if _, there := c.log[string(key)]; there {
		return
	}
	if c.log == nil {
		c.log = map[string]struct{}{}
	}
	c.log[string(key)] = struct{}{}
}

// shard borrows what the prefix fits in one shard.
func (c *scan) shard(s *Store, p *shard) {
	for cursor, done := uint64(0), false; !done; {
		cursor, done = c.piece(s, p, cursor)
	}
}

// piece is what is done under the lock at a time.
func (c *scan) piece(s *Store, p *shard, cursor uint64) (next uint64, done bool) {
	units := c.room()
	had, seen := len(*units), 0
	p.mu.RLock()
	next, done = p.table.Scan(cursor, func(_, unit uint32) bool {
		v := View{s, s.heap.At(unit), unit}
		if bytes.HasPrefix(v.Key(), c.prefix) {
			v.c.Acquire(s.words)
			if s.policy.on {
				v.c.Touch()
			}
			*units = append(*units, unit)
		}
		seen++
		return seen < scanPiece
	})
	p.mu.RUnlock()
	p.gets.Add(uint64(len(*units) - had))
	return next, done
}

// room is for what one piece finds. It is not all in one slice: one of millions that grows is copied under the lock.
func (c *scan) room() *[]uint32 {
	if n := len(c.units); n == 0 || cap(c.units[n-1])-len(c.units[n-1]) < scanPiece {
		c.units = append(c.units, make([]uint32, 0, 64*scanPiece))
	}
	return &c.units[len(c.units)-1]
}

// settle gives what the scan met, but for the names of the log what is under them now.
func (s *Store) settle(c *scan) []View {
	fresh := s.logged(c)
	n := len(fresh)
	for _, units := range c.units {
		n += len(units)
	}
	views := append(make([]View, 0, n), fresh...)
	for _, units := range c.units {
		for _, unit := range units {
			v := View{s, s.heap.At(unit), unit}
			if len(c.log) > 0 {
				if _, again := c.log[string(v.Key())]; again {
					v.Release()
					continue
				}
			}
			views = append(views, v)
		}
	}
	return views
}

// logged ends the log and borrows what is under its names.
func (s *Store) logged(c *scan) (fresh []View) {
	s.sets.lock.RLock()
	defer s.sets.lock.RUnlock()
	s.sets.end(c)
	for key := range c.log {
		if v, err := s.Get([]byte(key)); err == nil { // else it is gone again, or the store is being closed
			fresh = append(fresh, v)
		}
	}
	return fresh
}
