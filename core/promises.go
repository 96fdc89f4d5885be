package core

import (
	"sync"

	"moorage/core/tier"
)

// promises keep a store that loses nothing from filling up for good: for each object that only memory has there is room on
// disk, so that memory can always be made free to read what is on disk. A put that would take the last of it is refused,
// though memory may have room. A store that evicts promises nothing.
type promises struct {
	mu    sync.Mutex
	bytes uint64
	of    map[uint32]uint64 // by record
}

// promise takes room for an object that is about to be made.
func (s *Store) promise(op string, unit uint32, size uint64) error {
	if s.tiered == nil || s.opts.Eviction != EvictNone {
		return nil
	}
	x, n := &s.tiered.promises, tier.SpaceFor(size)
	for !x.tryKeep(unit, n, s.tiered.disk.FreeBytes) {
		if s.tiered.disk.Reclaim() {
			continue
		}
		return failf(op, ErrCapacity, "the disk is full: %d bytes wanted; of disk_capacity %d bytes %d are free, and %d are kept for objects "+
			"that are in memory alone; raise disk_capacity, remove objects, or open the store with eviction=\"s3fifo\"",
			n, s.tiered.disk.Stats().Capacity, s.tiered.disk.FreeBytes(), x.sum())
	}
	return nil
}

func (x *promises) tryKeep(unit uint32, n uint64, freeBytes func() uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	free := freeBytes()
	if n > free || x.bytes > free-n {
		return false
	}
	x.keep(unit, n)
	return true
}

func (x *promises) sum() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes
}

// keep is called with the mutex held.
func (x *promises) keep(unit uint32, n uint64) {
	x.of[unit] = n
	x.bytes += n
}

// fulfil ends a promise, because the object has room on disk by now or is gone. False: there was none.
func (s *Store) fulfil(unit uint32) bool {
	if s.tiered == nil {
		return false
	}
	x := &s.tiered.promises
	x.mu.Lock()
	defer x.mu.Unlock()
	n, ok := x.of[unit]
	delete(x.of, unit)
	x.bytes -= n
	return ok
}

// renew gives back what fulfil took, when the object did not get to disk.
func (s *Store) renew(unit uint32, size uint64) {
	x := &s.tiered.promises
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.of[unit]; !ok {
		x.keep(unit, tier.SpaceFor(size))
	}
}
