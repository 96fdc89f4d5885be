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

// settled returns when removals from the disk are as durable as the store was asked to make them. What is waited for is the
// device's time; r may be nil.
func (s *Store) settled(op string, r *timing.Record) error {
	began := timing.Now()
	err := s.tiered.disk.Settle()
	if r != nil && s.tiered.opts.Durability == tier.Each {
		s.tiered.synced(r, began)
	}
	if err != nil {
		return fail(op, classifyDisk(err, nil))
	}
	return nil
}

// clearDisk removes what the disk has and is no newer than a number, also where a read has brought it to memory meanwhile.
func (s *Store) clearDisk(upTo uint64) (removed uint64, err error) {
	for cursor := uint64(0); cursor != tier.ListEnd; {
		var keys [][]byte
		cursor = s.tiered.disk.List(nil, cursor, func(key []byte, _ bool) bool {
			keys = append(keys, bytes.Clone(key))
			return len(keys) < scanPiece
		})
		for _, key := range keys {
			if s.clearKey(key, upTo) {
				removed++
			}
		}
	}
	return removed, s.settled("clear", nil)
}

func (s *Store) clearKey(key []byte, upTo uint64) bool {
	p := s.at(key)
	p.mu.Lock()
	if !s.tiered.disk.Remove(key, upTo) {
		p.mu.Unlock()
		return false
	}
	unit := p.table.Lookup(p.tag, key)
	if unit != 0 && s.heap.At(unit).Seq > upTo {
		unit = 0
	}
	s.takeName(p, unit)
	p.mu.Unlock()
	if unit != 0 {
		s.unlinked(unit)
	}
	return true
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

// A cursor through memory and disk: which of the two, how many objects had been promoted when the listing began, and where it is
// in memory, or the first bits of a hash on disk.
const (
	onDiskCursor  = 1 << 63
	movesShift    = 39 // a cursor of memory is shorter
	movesMask     = 1<<24 - 1
	diskHashShift = 64 - movesShift
)

// listBoth lists memory, then what only the disk has. If something was promoted since the listing began, it gives all that the disk
// has: an object may have gone to memory behind our back.
func (s *Store) listBoth(prefix []byte, cursor uint64, visit func(group [][]byte) bool) (next uint64) {
	moves := cursor >> movesShift & movesMask
	if cursor == 0 {
		moves = s.tiered.moves.Load() & movesMask
	}
	at := cursor & (1<<movesShift - 1)
	if cursor&onDiskCursor == 0 {
		if next := s.listMemory(prefix, at, visit); next != ListEnd {
			return moves<<movesShift | next
		}
		return onDiskCursor | moves<<movesShift
	}
	next = s.tiered.disk.List(prefix, at<<diskHashShift, func(key []byte, resident bool) bool {
		return resident && s.tiered.moves.Load()&movesMask == moves || visit([][]byte{key})
	})
	if next == tier.ListEnd {
		return ListEnd
	}
	return onDiskCursor | moves<<movesShift | next>>diskHashShift
}

// bring makes sure that memory has the object under key, under its name whatever the option says, and gives a view of it.
func (s *Store) bring(key []byte) (View, error) {
	if v, resident := s.resident(s.at(key), key); resident {
		return v, nil
	}
	return s.fetch(timing.Promote, key, true, 0)
}

// again borrows what memory has under key, or what was loaded if the disk still has that. ErrNotResident: it has become
// another object since, and is only on disk. An object that could not be loaded stays so while only the disk has it. It was
// counted and timed when it was loaded.
func (s *Store) again(key []byte, loaded View, failed error) (View, error) {
	p := s.at(key)
	if !p.enter(s) {
		return View{}, ErrClosed
	}
	defer p.leave()
	v, resident := s.resident(p, key)
	switch {
	case resident:
		return v, nil
	case !s.onDisk(key):
		return View{}, ErrNotFound
	case loaded.c != nil && s.tiered.disk.HasSeq(key, loaded.Seq()):
		loaded.c.Acquire(s.words)
		return loaded, nil
	case failed != nil && failed != ErrNotFound && failed != ErrNotResident:
		return View{}, failed
	}
	return View{}, ErrNotResident
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

// batchDepth is how many objects of a batch are read at a time.
const batchDepth = 8

// getEachOfDisk brings in first what is on disk, several at a time. What a set replaces meanwhile is looked at again.
func (s *Store) getEachOfDisk(n int, key func(i int) []byte, give func(i int, v View, err error)) {
	since := timing.Now()
	loaded, errs := make([]View, n), make([]error, n)
	var absent []int
	for i := range n {
		if loaded[i], errs[i] = s.getTimed(timing.Get, key(i), since); errs[i] == ErrNotResident {
			absent = append(absent, i)
		}
	}
	each(len(absent), batchDepth, func(n int) {
		i := absent[n]
		loaded[i], errs[i] = s.getQueued(timing.Get, key(i), false, since)
	})
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
					loaded[i].Release()
					loaded[i], errs[i] = s.Get(key(i))
				}
			}
		}
	}
	for i := range n {
		give(i, views[i], errs[i])
	}
}
