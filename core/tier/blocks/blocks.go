package blocks

import (
	"fmt"
	"math/bits"
	"sync"
)

// Size is what a block has in bytes.
const Size = 4096

// MaxRuns is how many pieces an allocation is cut into at most.
const MaxRuns = 1 << 16

// Run is blocks that follow each other in one segment.
type Run struct {
	Segment uint32
	Start   uint32 // the first block, counted from the first one of the segment
	Count   uint32
}

// End is the first block behind it.
func (r Run) End() uint32 { return r.Start + r.Count }

// Map is the blocks of all segments.
type Map struct {
	mu       sync.Mutex
	segments []*segment // by number; nil: there is none
	total    uint64
	free     uint64
	next     int // where the last allocation found its blocks
}

type segment struct {
	used    []uint64 // a bit for each block; those behind the end are set
	blocks  uint32
	free    uint32
	longest uint32 // no free run is longer
	from    uint32 // no free block is before this word
}

// Add makes a segment known, all of it free.
func (m *Map) Add(number, count uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for int(number) >= len(m.segments) {
		m.segments = append(m.segments, nil)
	}
	s := &segment{used: make([]uint64, (uint64(count)+63)/64), blocks: count, free: count, longest: count}
	if tail := count % 64; tail != 0 {
		s.used[len(s.used)-1] = ^uint64(0) << tail
	}
	m.segments[number] = s
	m.total += uint64(count)
	m.free += uint64(count)
}

// Total and Free are blocks.
func (m *Map) Total() uint64 { m.mu.Lock(); defer m.mu.Unlock(); return m.total }

// Free is the number of blocks that are not taken.
func (m *Map) Free() uint64 { m.mu.Lock(); defer m.mu.Unlock(); return m.free }

// Longest is at least as many blocks as the longest free run has.
func (m *Map) Longest() (n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.segments {
		if s != nil {
			n = max(n, uint64(min(s.longest, s.free)))
		}
	}
	return n
}

// Allocate appends count blocks to runs. False: there are not as many, or only in too many pieces; nothing has changed then.
func (m *Map) Allocate(count uint64, runs []Run) ([]Run, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if count > m.free {
		return runs, false
	}
	had := len(runs)
	for least := count; count > 0 && len(runs)-had < MaxRuns; least = min(max(least/2, 1), count) {
		for i := 0; i < len(m.segments) && count > 0; i++ {
			number := (m.next + i) % len(m.segments)
			runs, count = m.gather(number, least, count, runs, had+MaxRuns)
		}
	}
	if count > 0 {
		m.freeLocked(runs[had:])
		return runs[:had], false
	}
	if len(runs) > had {
		m.next = int(runs[had].Segment)
	}
	return runs, true
}

// gather takes the runs of at least least blocks that a segment has, in one pass, and says how many blocks are missing then.
func (m *Map) gather(number int, least, count uint64, runs []Run, most int) ([]Run, uint64) {
	s := m.segments[number]
	if s == nil || uint64(min(s.longest, s.free)) < least {
		return runs, count
	}
	longest, taken := uint32(0), false
	for at := s.nextFree(s.from * 64); at < s.blocks; {
		want := uint32(min(count, uint64(s.free)))
		end := s.nextUsed(at, at+want)
		if uint64(end-at) < least {
			longest = max(longest, end-at)
		} else {
			run := Run{uint32(number), at, end - at}
			s.set(run)
			m.free -= uint64(run.Count)
			runs = append(runs, run)
			taken = true
			if count -= uint64(run.Count); count == 0 || len(runs) == most {
				return runs, count
			}
			least = min(least, count)
		}
		at = s.nextFree(end)
	}
	if !taken {
		s.longest = longest
	}
	return runs, count
}

// nextFree is the first free block from at on, or the number of blocks.
func (s *segment) nextFree(at uint32) uint32 {
	for w := at / 64; int(w) < len(s.used); w++ {
		free := ^s.used[w]
		if w == at/64 {
			free &= ^uint64(0) << (at % 64)
		}
		if free != 0 {
			return w*64 + uint32(bits.TrailingZeros64(free))
		}
	}
	return s.blocks
}

// nextUsed is the first block from at on that is taken, at most limit.
func (s *segment) nextUsed(at, limit uint32) uint32 {
	limit = min(limit, s.blocks)
	for w := at / 64; w*64 < limit; w++ {
		used := s.used[w]
		if w == at/64 {
			used &= ^uint64(0) << (at % 64)
		}
		if used != 0 {
			return min(limit, w*64+uint32(bits.TrailingZeros64(used)))
		}
	}
	return limit
}

// words calls visit with every word of a run and the bits of it.
func (s *segment) words(r Run, visit func(word *uint64, mask uint64)) {
	for at := r.Start; at < r.End(); {
		end := min(r.End(), at|63+1)
		mask := ^uint64(0) << (at % 64)
		if tail := end % 64; tail != 0 {
			mask &= 1<<tail - 1
		}
		visit(&s.used[at/64], mask)
		at = end
	}
}

func (s *segment) set(r Run) {
	s.words(r, func(word *uint64, mask uint64) { *word |= mask })
	s.free -= r.Count
	if r.Start/64 == s.from {
		for int(s.from) < len(s.used) && s.used[s.from] == ^uint64(0) {
			s.from++
		}
	}
}

func (s *segment) clear(r Run) {
	s.words(r, func(word *uint64, mask uint64) { *word &^= mask })
	s.free += r.Count
	s.from = min(s.from, r.Start/64)
	s.longest = s.free // at most
}

// Take marks blocks that an object was found to have. An error, and no change, when they are not there or are taken.
func (m *Map) Take(runs []Run) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range runs {
		if err := m.check(r); err != nil {
			m.freeLocked(runs[:i])
			return err
		}
		m.segments[r.Segment].set(r)
		m.free -= uint64(r.Count)
	}
	return nil
}

func (m *Map) check(r Run) error {
	if int(r.Segment) >= len(m.segments) || m.segments[r.Segment] == nil {
		return fmt.Errorf("%w: segment %d", ErrNoSegment, r.Segment)
	}
	s := m.segments[r.Segment]
	if r.Count == 0 || r.Start >= s.blocks || r.Count > s.blocks-r.Start {
		return fmt.Errorf("%w: %d blocks from %d on in a segment of %d", ErrOutside, r.Count, r.Start, s.blocks)
	}
	taken := false
	s.words(r, func(word *uint64, mask uint64) { taken = taken || *word&mask != 0 })
	if taken {
		return fmt.Errorf("%w: %d blocks from %d on in segment %d", ErrTaken, r.Count, r.Start, r.Segment)
	}
	return nil
}

// Release gives blocks back that were allocated or taken.
func (m *Map) Release(runs []Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.freeLocked(runs)
}

func (m *Map) freeLocked(runs []Run) {
	for _, r := range runs {
		m.segments[r.Segment].clear(r)
		m.free += uint64(r.Count)
	}
}

// Reset frees everything.
func (m *Map) Reset() {
	m.mu.Lock()
	segments := m.segments
	m.segments, m.total, m.free, m.next = nil, 0, 0, 0
	m.mu.Unlock()
	for i, s := range segments {
		if s != nil {
			m.Add(uint32(i), s.blocks)
		}
	}
}
