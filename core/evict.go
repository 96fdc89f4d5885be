package core

import (
	"sync"

	"moorage/core/evict"
	"moorage/core/index"
)

// policy is the eviction policy with its lock, which is taken before that of a shard, never while one is held.
type policy struct {
	on bool
	mu sync.Mutex
	q  *evict.S3FIFO
}

func (p *policy) init(s *Store) {
	if s.opts.Eviction == EvictS3FIFO || s.opts.Disk.on() {
		p.on, p.q = true, evict.NewS3FIFO(s.opts.Capacity, frequencies{s})
	}
}

func evictCandidate(unit uint32, seq, bytes, hash uint64) evict.Candidate {
	return evict.Candidate{Unit: unit, Seq: seq, Bytes: bytes, Hash: hash}
}

func (p *policy) added(c evict.Candidate) {
	if p.on {
		p.mu.Lock()
		p.q.Added(c)
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

// frequencies are the access counters in the cells. A candidate is only a hint: its cell is looked at after the name's
// shard has said that a name leads to it.
type frequencies struct{ s *Store }

func (f frequencies) Load(c evict.Candidate) (frequency uint8, alive bool) {
	p := &f.s.shards[index.Shard(c.Hash)]
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !f.s.names(p, c) {
		return 0, false
	}
	return f.s.heap.At(c.Unit).Freq(), true
}

func (f frequencies) Set(c evict.Candidate, frequency uint8) {
	p := &f.s.shards[index.Shard(c.Hash)]
	p.mu.RLock()
	defer p.mu.RUnlock()
	if f.s.names(p, c) {
		f.s.heap.At(c.Unit).SetFreq(frequency)
	}
}

// names reports whether a name still leads to the candidate's cell and that still is its object. The shard is locked.
func (s *Store) names(p *shard, c evict.Candidate) bool {
	return p.table.Contains(index.Tag(c.Hash), c.Unit) && s.heap.At(c.Unit).Seq == c.Seq
}

// evictOne drops one object. False: there is none to drop.
func (s *Store) evictOne() bool {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	for {
		c, ok := s.policy.q.Next()
		if !ok {
			return false
		}
		verdict, _ := s.tryEvict(c)
		s.answer(c, verdict)
		if verdict == dropped {
			return true
		}
	}
}

// verdict is what became of a candidate.
type verdict uint8

const (
	dropped   verdict = iota // it was dropped
	retained                 // viewed, held by a child or pinned
	stale                    // it had gone before
	unwritten                // it may go when the disk has it
)

// answer tells the policy what became of a candidate. Its mutex is locked.
func (s *Store) answer(c evict.Candidate, v verdict) {
	switch v {
	case dropped:
		s.policy.q.Evicted(c)
	case stale:
		s.policy.q.Refused(c, evict.Stale)
	case retained, unwritten:
		s.policy.q.Refused(c, evict.Held)
	}
}

// tryEvict drops an object that nobody views, no child holds and no pin protects, and that the disk has if there is one.
// What is unwritten comes with a view.
func (s *Store) tryEvict(cand evict.Candidate) (verdict, View) {
	p := &s.shards[index.Shard(cand.Hash)]
	p.mu.Lock()
	if !s.names(p, cand) {
		p.mu.Unlock()
		return stale, View{}
	}
	c := s.heap.At(cand.Unit)
	body := s.heap.BodyAt(c.Body)
	if body.Pinned != 0 || !c.Idle() || c.HeldByChild(s.words) {
		p.mu.Unlock()
		return retained, View{}
	}
	if t := s.tiered; t != nil && !t.disk.HasSeq(index.Key(body), c.Seq) {
		c.Acquire(s.words)
		v := View{s, c, cand.Unit}
		t.demotions.writing(v)
		p.mu.Unlock()
		return unwritten, v
	}
	if !c.Evict() {
		p.mu.Unlock()
		return retained, View{}
	}
	if s.tiered != nil {
		s.tiered.disk.SetResident(index.Key(body), c.Seq, false)
	}
	p.table.Delete(index.Tag(cand.Hash), cand.Unit)
	p.count.evictions++
	p.mu.Unlock()
	s.control.Push(s.words, c, cand.Unit)
	return dropped, View{}
}
