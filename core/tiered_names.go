package core

import (
	"bytes"
	"slices"

	"moorage/core/index"
	"moorage/core/tensor"
	"moorage/core/tier"
	"moorage/core/tier/timing"
)

// removeOnDisk takes a name away from the disk, and from what is on its way there. The shard is locked.
func (s *Store) removeOnDisk(key []byte) bool {
	return s.tiered != nil && s.tiered.disk.Remove(key, s.seq.Add(1))
}

// settled returns when removals from the disk are as durable as the store was asked to make them.
func (s *Store) settled(op string) error {
	if err := s.tiered.disk.Settle(); err != nil {
		return fail(op, classifyDisk(err, nil))
	}
	return nil
}

// clearDisk removes what only the disk has.
func (s *Store) clearDisk() (removed uint64, err error) {
	for cursor := uint64(0); cursor != tier.ListEnd; {
		var keys [][]byte
		cursor = s.tiered.disk.List(nil, cursor, func(key []byte, _ bool) bool {
			keys = append(keys, bytes.Clone(key))
			return len(keys) < scanPiece
		})
		for _, key := range keys {
			p := s.at(key)
			p.mu.Lock()
			if p.table.Lookup(p.tag, key) == 0 && s.removeOnDisk(key) {
				p.count.removes++
				removed++
			}
			p.mu.Unlock()
		}
	}
	return removed, s.settled("clear")
}

// describeOnDisk says of an object on disk what Describe says of one in memory.
func (s *Store) describeOnDisk(key []byte) (Description, error) {
	if s.tiered == nil {
		return Description{}, ErrNotFound
	}
	e, ok := s.tiered.disk.Peek(key)
	if !ok {
		return Description{}, ErrNotFound
	}
	defer e.Release()
	c := e.Content()
	return Description{
		Size: e.Bytes(), Seq: e.Seq(), Tensor: c.Tensor,
		DType: tensor.DType{Code: c.Code, Bits: c.Bits, Lanes: c.Lanes},
		Shape: slices.Clone(c.Shape), Meta: bytes.Clone(c.Meta), OnDisk: true,
	}, nil
}

// listDisk is the part of List behind the last shard: what memory does not have.
func (s *Store) listDisk(prefix []byte, cursor uint64, visit func(group [][]byte) bool) uint64 {
	const first = uint64(index.Shards) << 33
	next := s.tiered.disk.List(prefix, cursor-first, func(key []byte, resident bool) bool {
		return resident || visit([][]byte{key})
	})
	if next == tier.ListEnd {
		return ListEnd
	}
	return first + next
}

// bring makes sure that memory has the object under key, under its name whatever the option says, and gives a view of it.
func (s *Store) bring(key []byte) (View, error) {
	v, err := s.GetResident(key)
	if err == ErrNotResident {
		return s.fetch(timing.Promote, key, true)
	}
	return v, err
}

// again borrows what memory has under key, or what was loaded if the disk still has that. ErrNotResident: it has become
// another object since, and is only on disk. An object that could not be loaded stays so while only the disk has it.
func (s *Store) again(key []byte, loaded View, failed error) (View, error) {
	v, err := s.GetResident(key)
	switch {
	case err != ErrNotResident:
		return v, err
	case loaded.c != nil && s.tiered.disk.HasSeq(key, loaded.Seq()):
		loaded.c.Acquire(s.words)
		return loaded, nil
	case failed != nil && failed != ErrNotFound && failed != ErrNotResident:
		return View{}, failed
	}
	return View{}, err
}

// scanDisk borrows what the prefix fits of the disk, and what the scan of memory did not meet.
func (c *scan) scanDisk(s *Store) error {
	met := map[string]struct{}{}
	for _, units := range c.units {
		for _, unit := range units {
			met[string(index.Key(s.heap.BodyAt(s.heap.At(unit).Body)))] = struct{}{}
		}
	}
	for cursor := uint64(0); cursor != tier.ListEnd; {
		var keys [][]byte
		cursor = s.tiered.disk.List(c.prefix, cursor, func(key []byte, _ bool) bool {
			if _, there := met[string(key)]; !there {
				keys = append(keys, bytes.Clone(key))
			}
			return len(keys) < scanPiece
		})
		for _, key := range keys {
			v, err := s.Get(key)
			if err == ErrNotFound {
				continue // removed meanwhile
			}
			if err != nil {
				return failf("snapshot", err, "key %q", key)
			}
			met[string(key)] = struct{}{}
			units := c.room()
			*units = append(*units, v.unit)
		}
	}
	return nil
}

// getEachOfDisk brings in first what is on disk. What a set replaces meanwhile is looked at again.
func (s *Store) getEachOfDisk(n int, key func(i int) []byte, give func(i int, v View, err error)) {
	loaded, errs := make([]View, n), make([]error, n)
	load := func(i int) {
		loaded[i].Release()
		loaded[i], errs[i] = s.Get(key(i))
	}
	for i := range n {
		load(i)
	}
	defer releaseAll(loaded)
	views := make([]View, n)
	for again := true; again; {
		again = false
		s.BetweenSets(func() {
			for i := range n {
				if views[i], errs[i] = s.again(key(i), loaded[i], errs[i]); errs[i] == ErrNotResident {
					again = true
				}
			}
		})
		if again {
			for i := range n {
				views[i].Release()
				if errs[i] == ErrNotResident {
					load(i)
				}
			}
		}
	}
	for i := range n {
		give(i, views[i], errs[i])
	}
}
