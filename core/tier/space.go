package tier

import (
	"sync"
	"sync/atomic"

	"moorage/core/tier/blocks"
)

// space is who has which blocks. A block is used by an object that has a name, reserved by one that is being written, pending
// when its object is gone but the block may not be written yet, or free.
type space struct {
	d        *Disk
	capacity uint64 // in blocks, as everything here
	blocks   blocks.Map

	used, reserved, pending atomic.Uint64

	mu      sync.Mutex
	retired []retired
	swept   [3]uint64 // how far the journal was, and how many were retired, when nothing more could be freed

	making sync.Mutex // one at a time makes room; taken before all other locks
}

// retired is an object without a name that nobody reads any more.
type retired struct {
	body         body
	lsn, removal uint64
}

// allocate takes blocks for a draft.
func (s *space) allocate(n uint64) ([]blocks.Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken()+n > s.capacity {
		return nil, false
	}
	runs, ok := s.blocks.Allocate(n, nil)
	if ok {
		s.reserved.Add(n)
	}
	return runs, ok
}

func (s *space) taken() uint64 { return s.used.Load() + s.reserved.Load() + s.pending.Load() }

// drop gives back what a draft had that never came to a record.
func (s *space) drop(runs []blocks.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks.Release(runs)
	s.reserved.Add(-count(runs))
}

func count(runs []blocks.Run) (n uint64) {
	for _, r := range runs {
		n += uint64(r.Count)
	}
	return n
}

// published moves a draft's blocks to an object with a name, unpublished those of an object that has lost it.
func (s *space) published(n uint64)   { s.used.Add(n); s.reserved.Add(-n) }
func (s *space) unpublished(n uint64) { s.pending.Add(n); s.used.Add(-n) }

// never moves a draft's blocks that stand in a record and will get no name.
func (s *space) never(n uint64) { s.pending.Add(n); s.reserved.Add(-n) }

// retire takes the blocks of an object that is gone and not read any more.
func (s *space) retire(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = append(s.retired, retired{body: e.body, lsn: e.lsn, removal: e.removal})
}

// sweep frees the blocks of retired objects whose removal is as durable as they were: it is written, and if any sync may have made
// the object durable, another one has made its removal so. Otherwise a loss of power could bring the object back after
// its blocks were used for another one.
func (s *space) sweep() (freed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written, synced := s.d.log.Written(), s.d.log.Synced()
	begun := s.d.log.Syncing()
	now := [3]uint64{written, synced, uint64(len(s.retired))}
	if len(s.retired) == 0 || now == s.swept {
		return 0
	}
	left := s.retired[:0]
	for _, r := range s.retired {
		if r.removal > written || r.removal > synced && r.lsn <= begun {
			left = append(left, r)
			continue
		}
		runs := r.body.runs()
		s.blocks.Release(runs)
		freed += count(runs)
	}
	clear(s.retired[len(left):])
	s.retired = left
	s.pending.Add(-freed)
	s.swept = [3]uint64{written, synced, uint64(len(left))}
	return freed
}

// waiting says whether there are blocks that the journal holds up.
func (s *space) waiting() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.retired) > 0 }

// find gives blocks for a draft, and makes room where there is none: with what is already gone, with a new segment, and, if the
// disk is to evict, with objects.
func (s *space) find(n uint64) ([]blocks.Run, error) {
	if n == 0 {
		return nil, nil
	}
	if n > s.capacity {
		return nil, s.full(n)
	}
	if runs, ok := s.allocate(n); ok {
		return runs, nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	for {
		if runs, ok := s.allocate(n); ok {
			return runs, nil
		}
		if s.sweep() > 0 {
			continue
		}
		grown, err := s.grow()
		if grown {
			continue
		}
		if s.settle() {
			continue
		}
		if s.d.opts.FullEvicts && s.d.evictFor(n) {
			continue
		}
		if err == nil {
			err = s.full(n)
		}
		return nil, err
	}
}

// settle brings the journal on as far as retired objects need it.
func (s *space) settle() bool {
	if !s.waiting() {
		return false
	}
	if s.d.opts.Durability == None && s.d.log.Write(s.d.log.Last()) == nil && s.sweep() > 0 {
		return true
	}
	return s.d.syncAll() == nil && s.sweep() > 0
}

// grow adds a segment as long as the capacity is not reached. The segments of a directory may have more than its capacity, which
// then counts.
func (s *space) grow() (bool, error) {
	have := s.blocks.Total()
	if have >= s.capacity {
		return false, nil
	}
	n := min(s.d.opts.SegmentBytes/blocks.Size, s.capacity-have)
	if _, err := s.d.createSegment(uint32(len(s.d.segmentList())), uint32(n)); err != nil {
		return false, err
	}
	return true, nil
}

func (s *space) full(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.taken()
	return &FullError{
		Want: n * blocks.Size, Free: (s.capacity - min(taken, s.capacity)) * blocks.Size, Capacity: s.capacity * blocks.Size,
		Used: s.used.Load() * blocks.Size, Reserved: s.reserved.Load() * blocks.Size, Pending: s.pending.Load() * blocks.Size,
		Evicting: s.d.opts.FullEvicts,
	}
}
