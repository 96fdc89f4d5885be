package core

import (
	"sync/atomic"

	"moorage/core/evict"
	"moorage/core/index"
	"moorage/core/tier/timing"
)

// cleaner writes objects to disk before their memory is needed: when less than a share of it is free, those that would have to
// leave next, as many as are missing from that share. They stay in memory. Who needs room then drops them, and waits for no
// write. What it writes counts as demotion.
type cleaner struct {
	wake  chan struct{}
	ended chan struct{} // nil when it was not started
	share uint64        // bytes that are to be free, or to be had without a write
	taken atomic.Uint64 // bytes of objects that came into memory since it was woken
}

const (
	cleanShare = 8    // share is one part in so many of memory
	cleanLooks = 1024 // objects that a step looks at, and so the most that it is ahead
	cleanDepth = 4    // objects that it writes at a time
)

// startCleaner is part of opening. Who writes through leaves nothing to clean.
func (s *Store) startCleaner() {
	c := &s.tiered.cleaner
	if s.tiered.opts.WriteThrough {
		return
	}
	c.share = s.opts.Capacity / cleanShare
	c.wake, c.ended = make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(c.ended)
		for {
			select {
			case <-s.tiered.ctx.Done():
				return
			case <-c.wake:
				for s.clean() {
				}
			}
		}
	}()
}

// added tells the policy of an object, and now and then has the cleaner look.
func (s *Store) added(x evict.Candidate) {
	s.policy.added(x)
	if s.tiered == nil || s.tiered.cleaner.ended == nil {
		return
	}
	c := &s.tiered.cleaner
	if c.taken.Add(x.Bytes) < c.share/4 {
		return
	}
	c.taken.Store(0)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// clean writes some of what is next. True: there may be more of it. After an error it waits until it is woken again.
func (s *Store) clean() (more bool) {
	share, free := s.tiered.cleaner.share, s.opts.Capacity-s.arena.Stats().Used
	if free >= share || s.tiered.ctx.Err() != nil {
		return false
	}
	d := &s.tiered.demotions
	d.begin() // before anything is viewed: who finds nothing else to drop waits for us
	defer d.end()
	views := s.unwritten(share - free)
	errs := make([]error, len(views))
	each(len(views), cleanDepth, func(i int) { errs[i] = s.cleanOne(views[i]) })
	for _, err := range errs {
		if err != nil {
			return false
		}
	}
	return len(views) > 0
}

func (s *Store) cleanOne(v View) error {
	defer s.tiered.demotions.written(v)
	err := s.writeOutTimed("demote", timing.Demote, timing.Background, v)
	if err == nil {
		s.tiered.count.demoted.Add(1)
	}
	return err
}

// unwritten views what the disk does not have of the next so many bytes that would have to leave.
func (s *Store) unwritten(bytes uint64) (views []View) {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	seen := uint64(0)
	s.policy.q.Upcoming(cleanLooks, func(c evict.Candidate) bool {
		if v, ok := s.toClean(c); ok {
			views = append(views, v)
		}
		seen += c.Bytes
		return seen < bytes && len(views) < demoteMost
	})
	return views
}

// toClean views an object that could leave if the disk had it.
func (s *Store) toClean(cand evict.Candidate) (View, bool) {
	p := &s.shards[index.Shard(cand.Hash)]
	p.mu.Lock() // as who takes an object, and sees whether it is being written
	defer p.mu.Unlock()
	if !s.names(p, cand) {
		return View{}, false
	}
	c := s.heap.At(cand.Unit)
	body := s.heap.BodyAt(c.Body)
	if body.Pinned != 0 || !c.Idle() || c.HeldByChild(s.words) || s.tiered.disk.HasSeq(index.Key(body), c.Seq) {
		return View{}, false
	}
	c.Acquire(s.words)
	v := View{s, c, cand.Unit}
	s.tiered.demotions.writing(v)
	return v, true
}
