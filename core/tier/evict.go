package tier

import (
	"sync"

	"moorage/core/evict"
	"moorage/core/tier/blocks"
)

// policy says who leaves a full disk. Its lock is taken before those of the shards.
type policy struct {
	on bool
	mu sync.Mutex
	q  *evict.S3FIFO
}

func (p *policy) init(d *Disk) {
	if d.opts.FullEvicts {
		p.on, p.q = true, evict.NewS3FIFO(d.opts.Capacity, hits{d})
	}
}

// candidate names an entry by its hash and its record, both of which the index finds it by.
func candidate(e *Entry) evict.Candidate {
	return evict.Candidate{Seq: e.lsn, Bytes: e.blocks() * blocks.Size, Hash: e.hash}
}

func (p *policy) added(e *Entry) {
	if p.on {
		p.mu.Lock()
		p.q.Added(candidate(e))
		p.mu.Unlock()
	}
}

func (p *policy) removed() {
	if p.on {
		p.mu.Lock()
		p.q.Removed()
		p.mu.Unlock()
	}
}

// hits are the access counters of the entries.
type hits struct{ d *Disk }

func (h hits) with(c evict.Candidate, do func(*Entry)) bool {
	s := h.d.shard(c.Hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.table.findLSN(c.Hash, c.Seq)
	if e != nil {
		do(e)
	}
	return e != nil
}

func (h hits) Load(c evict.Candidate) (frequency uint8, alive bool) {
	alive = h.with(c, func(e *Entry) { frequency = uint8(e.hits.Load()) })
	return frequency, alive
}

func (h hits) Set(c evict.Candidate, frequency uint8) {
	h.with(c, func(e *Entry) { e.hits.Store(uint32(frequency)) })
}

// evictFor drops objects until n blocks can be had, once the journal has them, and some more: each round costs a sync. False:
// there is nothing to drop.
func (d *Disk) evictFor(n uint64) bool {
	spare := min(d.space.capacity/128, 4096)
	dropped, any := uint64(0), false
	for {
		free := d.space.capacity - min(d.space.taken(), d.space.capacity)
		if any && free+dropped >= n+spare {
			return true
		}
		got, ok := d.evictOne()
		if !ok {
			return any
		}
		dropped, any = dropped+got, true
	}
}

// evictOne drops one object.
func (d *Disk) evictOne() (freed uint64, ok bool) {
	p := &d.policy
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		c, ok := p.q.Next()
		if !ok {
			return 0, false
		}
		e, why := d.tryEvict(c)
		if e == nil {
			p.q.Refused(c, why)
			continue
		}
		p.q.Evicted(c)
		d.count.evicted.Add(1)
		freed = e.blocks()
		e.letGo()
		return freed, true
	}
}

// tryEvict takes the name of an entry away that nobody holds.
func (d *Disk) tryEvict(c evict.Candidate) (*Entry, evict.Reason) {
	s := d.shard(c.Hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.table.findLSN(c.Hash, c.Seq)
	if e == nil {
		return nil, evict.Stale
	}
	if e.holds.Load() != 1 {
		return nil, evict.Held
	}
	d.leave(s, e, d.log.Append(recordRemove, e.hash, makeRemoval(e.Seq(), e.Key())))
	return e, 0
}
