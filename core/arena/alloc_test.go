package arena

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUsable fills a region until the first failure, takes a third away at
// random and fills again, many times over. On average at least 96 % must be in
// use. What is missing is free in pieces that are too short for the one big
// object that came along; single rounds may therefore fall below.
func TestUsable(t *testing.T) {
	const size = 8 << 30
	for seed := range uint64(3) {
		a, err := NewExtents(size, 4<<10)
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(seed, 7))
		var live []uint32
		fill := func() {
			for {
				e, err := a.Alloc(logUniform(r, 1<<10, 16<<20), false)
				if err != nil {
					require.True(t, errors.Is(err, ErrNoSpace))
					return
				}
				live = append(live, e.Block)
			}
		}
		drop := func() {
			k := r.IntN(len(live))
			require.NoError(t, a.Free(live[k]))
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		const rounds = 20
		sum, least := 0.0, 1.0
		for range rounds {
			fill()
			used := float64(a.Stats().Used) / size
			sum, least = sum+used, min(least, used)
			for range len(live) / 3 {
				drop()
			}
		}
		t.Logf("seed %d: in use at the first failure %.1f %% on average, %.1f %% at least", seed, 100*sum/rounds, 100*least)
		require.Greater(t, sum/rounds, 0.96)
		require.Greater(t, least, 0.85)
		require.NoError(t, a.Close())
	}
}

func newTestExtents(t *testing.T, size, page uint64) *Extents {
	t.Helper()
	a, err := NewExtents(size, page)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func mustAlloc(t *testing.T, a *Extents, n uint64, pages bool) Extent {
	t.Helper()
	e, err := a.Alloc(n, pages)
	require.NoError(t, err)
	return e
}

func TestExtentRounding(t *testing.T) {
	for _, c := range []struct {
		page, n    uint64
		pages      bool
		len, align uint64
	}{
		{4 << 10, 0, false, 64, 64},
		{4 << 10, 1, false, 64, 64},
		{4 << 10, 65, false, 128, 64},
		{4 << 10, 32<<10 - 1, false, 32 << 10, 64},
		{4 << 10, 32 << 10, false, 32 << 10, 4 << 10},
		{4 << 10, 32<<10 + 1, false, 36 << 10, 4 << 10},
		{4 << 10, 0, true, 4 << 10, 4 << 10},
		{4 << 10, 100, true, 4 << 10, 4 << 10},
		{64 << 10, 33 << 10, false, 64 << 10, 64 << 10},
		{2 << 20, 33 << 10, false, 36 << 10, 4 << 10},
		{2 << 20, 33 << 10, true, 2 << 20, 2 << 20},
		{2 << 20, 100, false, 128, 64},
	} {
		a := newTestExtents(t, 64<<20, c.page)
		mustAlloc(t, a, 1, false) // at the end
		first := mustAlloc(t, a, 1, true)
		require.NoError(t, a.Free(first.Block))
		e := mustAlloc(t, a, c.n, c.pages)
		require.Equal(t, c.len, e.Len, "%+v", c)
		require.Zero(t, e.Off%c.align, "%+v", c)
		require.Equal(t, c.len, a.Len(e.Block))
	}
}

func TestExtentsRefuse(t *testing.T) {
	for _, c := range [][2]uint64{{0, 4096}, {4096, 0}, {4096, 2048}, {8192, 6000}, {6000, 4096}, {1 << 45, 4096}} {
		_, err := NewExtents(c[0], c[1])
		require.ErrorIs(t, err, ErrOption, "%v", c)
	}
	a := newTestExtents(t, 1<<20, 4<<10)
	for _, n := range []uint64{1<<20 + 1, 1 << 40, ^uint64(0), ^uint64(0) - 63} {
		_, err := a.Alloc(n, false)
		require.ErrorIs(t, err, ErrNoSpace)
	}
	e := mustAlloc(t, a, 1<<20, false)
	before := a.Stats()
	_, err := a.Alloc(0, false)
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, "longest free extent has 0")
	for _, b := range []uint32{0, a.sweep.first + 1, 1 << 20, ^uint32(0), a.blocks.at(e.Block).next} {
		if b != e.Block {
			require.ErrorIs(t, a.Free(b), ErrBadBlock)
			require.Zero(t, a.Len(b))
		}
	}
	require.Equal(t, before, a.Stats())
	require.NoError(t, a.Free(e.Block))
	require.ErrorIs(t, a.Free(e.Block), ErrBadBlock)

	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	_, err = a.Alloc(1, false)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, a.Free(e.Block), ErrClosed)
	require.ErrorIs(t, a.each(true, trimStep, nil), ErrClosed)
	require.Zero(t, a.Stats())
	require.Zero(t, a.Len(e.Block))
}

// TestWarmFirst: what was freed is used again before fresh pages are, also
// when it lies beside fresh memory and when there are better fitting fresh
// pieces; what trim gave back comes last.
func TestWarmFirst(t *testing.T) {
	const page = 4 << 10
	a := newTestExtents(t, 4096*page, page)
	one := mustAlloc(t, a, 16*page, false)
	wall := mustAlloc(t, a, page, true)
	last := mustAlloc(t, a, 64*page, false)
	touched := a.Touched()
	require.EqualValues(t, 81*page, touched)

	// Warm throughout, between extents in use.
	require.NoError(t, a.Free(one.Block))
	again := mustAlloc(t, a, 10*page, false)
	require.Equal(t, one.Off, again.Off)
	require.NoError(t, a.Free(again.Block))
	// Merged with the fresh rest: the warm end of it is used.
	require.NoError(t, a.Free(last.Block))
	first := mustAlloc(t, a, 16*page, false)
	require.Equal(t, one.Off, first.Off)
	for range 4 {
		mustAlloc(t, a, 16*page, false)
	}
	require.Equal(t, touched, a.Touched())

	// A small one would go to the cold far end, were the near one not warm.
	require.NoError(t, a.Free(first.Block))
	require.NoError(t, a.Free(wall.Block))
	mustAlloc(t, a, 100, false)
	require.Equal(t, touched, a.Touched())

	// Trimmed pages are cold, and the rest of the warm ones goes first.
	require.NoError(t, a.each(true, trimStep, func(off, n uint64) (uint64, error) {
		require.Zero(t, off)
		require.EqualValues(t, 16*page, n)
		return n / 2, nil
	}))
	require.Equal(t, touched-8*page, a.Touched())
	cold := a.Stats().FreeCold
	for a.Stats().FreeWarm >= page {
		mustAlloc(t, a, page, true)
	}
	require.Equal(t, cold, a.Stats().FreeCold)
	mustAlloc(t, a, page, true)
	require.Equal(t, cold-page, a.Stats().FreeCold)
}

// failing is a backing that runs out after some calls.
type failing struct {
	backing
	left  int
	freed bool
}

var errOut = errors.New("injected: out of memory")

func (f *failing) chunk(number int) (*chunk, error) {
	if f.left--; f.left < 0 {
		return nil, errOut
	}
	return f.backing.chunk(number)
}

func (f *failing) words(n uint64) ([]uint64, error) {
	if f.left--; f.left < 0 {
		return nil, errOut
	}
	return f.backing.words(n)
}

func (f *failing) free() error { f.freed = true; return f.backing.free() }

// TestMetadataFailure: the table cannot grow at the n-th step, and nothing has
// changed for it.
func TestMetadataFailure(t *testing.T) {
	for steps := range 2 {
		mem := &failing{backing: newBacking(), left: steps}
		_, err := newExtents(1<<20, 4<<10, mem)
		require.ErrorIs(t, err, errOut)
		require.True(t, mem.freed)
	}
	mem := &failing{backing: newBacking(), left: 2}
	a, err := newExtents(1<<30, 4<<10, mem)
	require.NoError(t, err)
	defer a.Close()
	m := newNaive(a)
	for {
		e, err := a.Alloc(64, false)
		if err != nil {
			require.ErrorIs(t, err, ErrMetadata)
			require.ErrorIs(t, err, errOut)
			break
		}
		m.live[e.Block] = e
		for p := e.Off / a.page; p*a.page < e.Off+e.Len; p++ {
			m.warm[p] = true
		}
	}
	require.Greater(t, len(m.live), chunkLen-8)
	m.check(t, a)
	require.ErrorIs(t, a.each(false, trimStep, func(uint64, uint64) (uint64, error) { return 0, nil }), ErrMetadata)
	m.check(t, a)
	for b := range m.live {
		if err := a.Free(b); err != nil {
			t.Fatal(err)
		}
	}
	clear(m.live)
	m.check(t, a)
	mem.left = 1 << 20
	e, err := a.Alloc(64, false)
	require.NoError(t, err)
	require.NoError(t, a.Free(e.Block))
}

// TestTableGrows: more extents than one chunk describes.
func TestTableGrows(t *testing.T) {
	a := newTestExtents(t, 1<<30, 4<<10)
	const many = chunkLen + chunkLen/2
	blocks := map[uint32]bool{}
	for range many {
		e, err := a.Alloc(64, false)
		if err != nil {
			t.Fatal(err)
		}
		blocks[e.Block] = true
	}
	require.Len(t, blocks, many)
	for b := range blocks {
		if err := a.Free(b); err != nil {
			t.Fatal(err)
		}
	}
	newNaiveWarm(a).check(t, a)
}

// newNaiveWarm is a model without extents that takes the pages as they are.
func newNaiveWarm(a *Extents) *naive {
	m := newNaive(a)
	for p := range a.size / a.page {
		if a.pages.warm(p * a.page) {
			m.warm[p] = true
		}
	}
	return m
}

// TestAllocFreeAllocatesNothing: no garbage on the way that every put takes.
func TestAllocFreeAllocatesNothing(t *testing.T) {
	a := newTestExtents(t, 1<<30, 4<<10)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		e, err := a.Alloc(100_000, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Free(e.Block); err != nil {
			t.Fatal(err)
		}
	}))
}

// TestAllocWaitsForSweep: an allocation that fails only because a sweep has
// pages in hand waits for them, and its turn comes before the next piece.
func TestAllocWaitsForSweep(t *testing.T) {
	a := newTestExtents(t, 64<<20, 4<<10)
	e := mustAlloc(t, a, 64<<20, false)
	require.NoError(t, a.Free(e.Block))
	out, back, swept := make(chan bool), make(chan bool), make(chan error)
	pieces := 0
	go func() {
		swept <- a.each(true, fillStep, func(_, n uint64) (uint64, error) {
			if pieces++; pieces == 1 {
				close(out)
				<-back
			}
			return n, nil
		})
	}()
	<-out
	require.Equal(t, uint64(64<<20), a.Stats().FreeWarm, "counts as free meanwhile")
	got := make(chan error, 1)
	go func() {
		_, err := a.Alloc(64<<20, false)
		got <- err
	}()
	for waiting := 0; waiting == 0 && len(got) == 0; {
		a.mu.Lock()
		waiting = a.sweep.waiting
		a.mu.Unlock()
	}
	close(back)
	require.NoError(t, <-got)
	require.Equal(t, uint64(64<<20), a.Stats().Used)
	require.NoError(t, <-swept)
	require.Equal(t, 1, pieces)
}
