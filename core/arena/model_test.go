package arena

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// naive is what an allocator has to be like, in the plainest form: which
// extents are live, and which pages are warm.
type naive struct {
	size, page uint64
	live       map[uint32]Extent
	warm       map[uint64]bool
}

func newNaive(a *Extents) *naive {
	return &naive{size: a.size, page: a.page, live: map[uint32]Extent{}, warm: map[uint64]bool{}}
}

func (m *naive) alloc(t require.TestingT, e Extent, n uint64, pages bool, large uint64) {
	align := uint64(grain)
	if pages {
		align = m.page
	} else if n >= smallLimit {
		align = large
	}
	require.Zero(t, e.Off%align, "alignment")
	require.Equal(t, up(max(n, 1), align), e.Len)
	require.LessOrEqual(t, e.Off+e.Len, m.size)
	require.NotContains(t, m.live, e.Block)
	m.live[e.Block] = e
	for p := e.Off / m.page; p*m.page < e.Off+e.Len; p++ {
		m.warm[p] = true
	}
}

// gaps are the stretches between live extents.
func (m *naive) gaps() (all [][2]uint64) {
	byOff := make([]Extent, 0, len(m.live))
	for _, e := range m.live {
		byOff = append(byOff, e)
	}
	sort.Slice(byOff, func(i, j int) bool { return byOff[i].Off < byOff[j].Off })
	at := uint64(0)
	for _, e := range byOff {
		if e.Off > at {
			all = append(all, [2]uint64{at, e.Off})
		}
		at = max(at, e.Off+e.Len)
	}
	if at < m.size {
		all = append(all, [2]uint64{at, m.size})
	}
	return all
}

// check compares everything. That live extents do not overlap follows from the
// walk: every block is as the model says, and together they fill the region.
func (m *naive) check(t require.TestingT, a *Extents) {
	a.mu.Lock()
	gaps := m.gaps()
	at, live, cold, used, longest := uint64(0), 0, uint64(0), uint64(0), uint64(0)
	listed := a.listed(t)
	for b := a.sweep.first; a.blocks.at(b).state != stateEnd; b = a.blocks.at(b).next {
		blk := *a.blocks.at(b)
		n := a.length(b)
		require.Equal(t, at, blk.off)
		require.Equal(t, b, a.blocks.at(blk.next).prev)
		if e, ok := m.live[b]; ok {
			require.Equal(t, stateUsed, blk.state)
			require.Equal(t, e.Off, blk.off)
			require.Equal(t, e.Len, n)
			live++
			used += n
		} else {
			require.Equal(t, stateFree, blk.state)
			require.NotEmpty(t, gaps, "a free block where there is no gap")
			require.Equal(t, gaps[0], [2]uint64{blk.off, blk.off + n}, "neighbours are merged")
			gaps = gaps[1:]
			longest = max(longest, n)
			c := uint64(0)
			for p := blk.off / m.page; p*m.page < blk.off+n; p++ {
				if !m.warm[p] {
					c++
				}
			}
			require.EqualValues(t, c, blk.cold, "cold pages of block at %d", blk.off)
			cold += c
			require.True(t, listed[b], "free block in its list")
			delete(listed, b)
		}
		at += n
	}
	require.Equal(t, m.size, at)
	require.Empty(t, gaps)
	require.Empty(t, listed)
	require.Equal(t, len(m.live), live)
	a.mu.Unlock()
	s := a.Stats()
	require.Equal(t, used, s.Used)
	require.Equal(t, cold*m.page, s.FreeCold)
	require.Equal(t, s.Size, s.Used+s.FreeCold+s.FreeWarm)
	require.Equal(t, s.Size-s.FreeCold, s.Touched)
	require.EqualValues(t, live, s.Extents)
	require.Equal(t, longest, s.LargestFree)
}

// listed gives all blocks that hang in lists and checks lists and bitmaps.
func (a *Extents) listed(t require.TestingT) map[uint32]bool {
	all := map[uint32]bool{}
	for _, s := range []*bins{&a.warm, &a.rest} {
		for c, b := range s.head {
			bit := s.colMap[c/cols]>>(c%cols)&1 != 0
			require.Equal(t, b != 0, bit)
			if bit {
				require.NotZero(t, s.rowMap>>(c/cols)&1)
			}
			for before := uint32(0); b != 0; before, b = b, a.blocks.at(b).after {
				blk := a.blocks.at(b)
				require.Equal(t, before, blk.before)
				require.Equal(t, c, class(a.length(b)))
				require.Same(t, s, a.bins(blk.cold))
				require.False(t, all[b])
				all[b] = true
			}
		}
		for row, m := range s.colMap {
			require.Equal(t, m != 0, s.rowMap>>row&1 != 0)
		}
	}
	require.EqualValues(t, len(all), a.idle)
	return all
}

// seeded prints the seed of a random test.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestExtentsModel(t *testing.T) {
	for _, page := range []uint64{4 << 10, 2 << 20} {
		t.Run(fmt.Sprintf("page %d KiB", page>>10), func(t *testing.T) {
			r := seeded(t)
			rounds := 8
			if testing.Short() {
				rounds = 2
			}
			for range rounds {
				ops := make([]byte, 1200)
				for i := range ops {
					ops[i] = byte(r.UintN(256))
				}
				playOps(t, ops, page)
			}
		})
	}
}

func FuzzExtents(f *testing.F) {
	f.Add([]byte{0, 1, 200, 64, 3, 2, 255, 17, 5}, false)
	f.Add([]byte{0, 255, 255, 64, 0, 128, 0, 0, 192, 0, 0}, true)
	f.Fuzz(func(t *testing.T, ops []byte, huge bool) {
		page := uint64(4 << 10)
		if huge {
			page = 2 << 20
		}
		playOps(t, ops[:min(len(ops), 600)], page)
	})
}

// playOps reads three bytes per step: alloc, free, trim or prefault.
func playOps(t *testing.T, ops []byte, page uint64) {
	a, err := NewExtents(256*page, page)
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	m := newNaive(a)
	var order []uint32
	for step := 0; len(ops) >= 3; step++ {
		op, x, y := ops[0], uint64(ops[1]), uint64(ops[2])
		ops = ops[3:]
		switch {
		case op < 140:
			// A length of up to a sixteenth of the region, mostly small.
			n := (x*256 + y) << (op % 9) * (page >> 12) / 16
			pages := op >= 100
			e, err := a.Alloc(n, pages)
			if err != nil {
				require.ErrorIs(t, err, ErrNoSpace)
				continue
			}
			m.alloc(t, e, n, pages, a.large)
			order = append(order, e.Block)
		case op < 250 && len(order) > 0:
			k := int(x*256+y) % len(order)
			b := order[k]
			order[k] = order[len(order)-1]
			order = order[:len(order)-1]
			require.Equal(t, m.live[b].Len, a.Len(b))
			require.NoError(t, a.Free(b))
			delete(m.live, b)
			require.ErrorIs(t, a.Free(b), ErrBadBlock)
		default:
			m.sweep(t, a, x%2 == 0, y%3 == 0)
		}
		if step%16 == 0 {
			m.check(t, a)
		}
	}
	m.check(t, a)
	for _, b := range order {
		require.NoError(t, a.Free(b))
		delete(m.live, b)
	}
	m.check(t, a)
	require.EqualValues(t, 1, a.Stats().FreeBlocks)
}

// sweep trims or prefaults; half says that every second piece is left alone
// and every third done in part.
func (m *naive) sweep(t require.TestingT, a *Extents, warm, half bool) {
	const step = 16 << 20
	count := 0
	require.NoError(t, a.each(warm, step, func(off, n uint64) (uint64, error) {
		require.Zero(t, off%m.page)
		require.Zero(t, n%m.page)
		require.LessOrEqual(t, off%step+n, uint64(step))
		for p := off / m.page; p < (off+n)/m.page; p++ {
			require.Equal(t, warm, m.warm[p])
		}
		count++
		if half && count%2 == 0 {
			return 0, nil
		}
		if half && count%3 == 0 {
			n = up(n/2, m.page)
		}
		for p := off / m.page; p < (off+n)/m.page; p++ {
			m.warm[p] = !warm
		}
		return n, nil
	}))
}
