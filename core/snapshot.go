package core

import (
	"bytes"
	"slices"
)

// scanPiece is how many names a scan of all looks at under a shard's lock.
const scanPiece = 512

// Snapshot borrows the object under every key, at one moment as far as sets are concerned: of a set it has all or nothing. Objects
// that are put one by one are each as they were at some time during the call. The views are the caller's, in the order
// of the keys. ErrNotFound names the first key that is missing; nothing is borrowed then.
func (s *Store) Snapshot(keys [][]byte) ([]View, error) {
	const op = "snapshot"
	views := make([]View, 0, len(keys))
	var failed error
	s.BetweenSets(func() {
		for _, key := range keys {
			v, err := s.Get(key)
			if err != nil {
				failed = failf(op, err, "key %q", key)
				return
			}
			views = append(views, v)
		}
	})
	if failed != nil {
		releaseAll(views)
		return nil, failed
	}
	return views, nil
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
	s.settle(c)
	if s.closed.Load() != 0 {
		releaseAll(c.views)
		return nil, fail("snapshot", ErrCancelled)
	}
	return c.views, nil
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
	views  []View
	log    [][]byte // guarded by sets.mu
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

// note tells the scans of a name that a set has published. lock is held.
func (t *sets) note(key []byte) {
	if len(t.scans) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.scans {
		if bytes.HasPrefix(key, c.prefix) {
			c.log = append(c.log, bytes.Clone(key))
		}
	}
}

func (t *sets) logged(c *scan) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(c.log) > 0
}

// shard borrows what the prefix fits in one shard.
func (c *scan) shard(s *Store, p *shard) {
	for cursor, done := uint64(0), false; !done; {
		seen := 0
		p.mu.RLock()
		cursor, done = p.table.Scan(cursor, func(_, unit uint32) bool {
			v := View{s, s.heap.At(unit), unit}
			if bytes.HasPrefix(v.Key(), c.prefix) {
				v.c.Acquire(s.words)
				if s.policy.on {
					v.c.Touch()
				}
				c.views = append(c.views, v)
			}
			seen++
			return seen < scanPiece
		})
		p.mu.RUnlock()
	}
}

// settle looks up again what is in the log. Where every view stands is found before the lock is taken.
func (s *Store) settle(c *scan) {
	var at map[string]int
	if s.sets.logged(c) {
		at = c.places()
	}
	s.sets.lock.RLock()
	defer s.sets.lock.RUnlock()
	s.sets.end(c)
	if len(c.log) > 0 && at == nil {
		at = c.places()
	}
	var stale []View
	for _, key := range c.log {
		v, err := s.Get(key)
		i, known := at[string(key)]
		switch {
		case err == nil && known:
			stale = append(stale, c.views[i])
			c.views[i] = v
		case err == nil:
			at[string(key)] = len(c.views)
			c.views = append(c.views, v)
		case known: // removed since
			stale = append(stale, c.views[i])
			c.views[i] = View{}
		}
	}
	if len(c.log) > 0 {
		c.views = slices.DeleteFunc(c.views, func(v View) bool { return v.c == nil })
		releaseAll(stale)
	}
}

func (c *scan) places() map[string]int {
	at := make(map[string]int, len(c.views))
	for i, v := range c.views {
		at[string(v.Key())] = i
	}
	return at
}
