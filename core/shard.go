package core

import (
	"sync"
	"sync/atomic"

	"moorage/core/index"
)

// shard is one part of the names. inflight is its stripe of the call gate: a call counts itself here, then looks at
// the closed flag; Close sets the flag, then sees every stripe at zero once.
type shard struct {
	inflight atomic.Int64
	gets     atomic.Uint64
	misses   atomic.Uint64

	mu    sync.RWMutex
	table *index.Table // all below: guarded by mu
	count counts
	_     [64]byte // the next shard's counters are on another line
}

// counts are changed with the names.
type counts struct {
	puts, removes, evictions   uint64
	pinnedObjects, pinnedBytes uint64
}

// at is where a key belongs.
type at struct {
	*shard
	hash uint64
	tag  uint32
}

func (s *Store) at(key []byte) at {
	h := index.Hash(key)
	return at{&s.shards[index.Shard(h)], h, index.Tag(h)}
}

// enter counts a call in. False: the store is closed, and nothing was counted.
func (p *shard) enter(s *Store) bool {
	p.inflight.Add(1)
	if s.closed.Load() == 0 {
		return true
	}
	p.inflight.Add(-1)
	return false
}

func (p *shard) leave() { p.inflight.Add(-1) }

// pin moves the figures of pinned names. mu is locked for writing.
func (c *counts) pin(bytes uint64, up bool) {
	if up {
		c.pinnedObjects++
		c.pinnedBytes += bytes
	} else {
		c.pinnedObjects--
		c.pinnedBytes -= bytes
	}
}
