package blocks

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func count(runs []Run) (n uint64) {
	for _, r := range runs {
		n += uint64(r.Count)
	}
	return n
}

// Random allocations, releases and takings against one bool for each block.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		sizes := []uint32{1 + r.Uint32N(300), 64, 1 + r.Uint32N(300)}
		m, taken := &Map{}, make([][]bool, len(sizes))
		total := uint64(0)
		for i, n := range sizes {
			m.Add(uint32(i), n)
			taken[i] = make([]bool, n)
			total += uint64(n)
		}
		mark := func(runs []Run, to bool) {
			for _, run := range runs {
				for b := run.Start; b < run.End(); b++ {
					require.NotEqual(t, to, taken[run.Segment][b], "block %d of %d", b, run.Segment)
					taken[run.Segment][b] = to
				}
			}
		}
		var live [][]Run
		used := uint64(0)
		for range 2000 {
			switch r.IntN(5) {
			case 0, 1:
				n := uint64(1 + r.IntN(40))
				runs, ok := m.Allocate(n, nil)
				require.Equal(t, n <= total-used, ok, "%d of %d", n, total-used)
				if ok {
					require.Equal(t, n, count(runs))
					mark(runs, true)
					live, used = append(live, runs), used+n
				}
			case 2, 3:
				if len(live) > 0 {
					i := r.IntN(len(live))
					m.Release(live[i])
					mark(live[i], false)
					used -= count(live[i])
					live = append(live[:i], live[i+1:]...)
				}
			case 4:
				run := Run{r.Uint32N(4), r.Uint32N(310), r.Uint32N(8)}
				free := int(run.Segment) < len(sizes) && run.Count > 0 && run.End() <= sizes[run.Segment]
				for b := run.Start; free && b < run.End(); b++ {
					free = !taken[run.Segment][b]
				}
				err := m.Take([]Run{run})
				require.Equal(t, free, err == nil, "%v: %v", run, err)
				if free {
					mark([]Run{run}, true)
					live, used = append(live, []Run{run}), used+uint64(run.Count)
				}
			}
			require.Equal(t, total-used, m.Free())
			require.Equal(t, total, m.Total())
		}
		m.Reset()
		runs, ok := m.Allocate(total, nil)
		require.True(t, ok)
		require.Len(t, runs, len(sizes), "whole segments")
	}
}

func TestOneRunWhereThereIsOne(t *testing.T) {
	m := &Map{}
	m.Add(0, 100)
	m.Add(1, 100)
	require.NoError(t, m.Take([]Run{{0, 10, 10}, {0, 30, 60}}))
	for _, n := range []uint64{100, 10, 9} {
		runs, ok := m.Allocate(n, nil)
		require.True(t, ok)
		require.Len(t, runs, 1)
	}
	require.EqualValues(t, 11, m.Free())
	require.GreaterOrEqual(t, m.Longest(), uint64(10))
	runs, ok := m.Allocate(11, nil)
	require.True(t, ok)
	require.Equal(t, []Run{{0, 20, 10}, {0, 19, 1}}[0].Count+1, runs[0].Count+runs[len(runs)-1].Count)
	_, ok = m.Allocate(1, nil)
	require.False(t, ok)
}

// Every second block is free: a long object gets them all.
func TestCrumbs(t *testing.T) {
	m := &Map{}
	m.Add(3, 2000)
	for b := uint32(0); b < 2000; b += 2 {
		require.NoError(t, m.Take([]Run{{3, b, 1}}))
	}
	runs, ok := m.Allocate(1000, nil)
	require.True(t, ok)
	require.Len(t, runs, 1000)
	require.Zero(t, m.Free())
	m.Release(runs)
	require.EqualValues(t, 1000, m.Free())
}

func TestTakeIsWholeOrNothing(t *testing.T) {
	m := &Map{}
	m.Add(0, 64)
	require.ErrorIs(t, m.Take([]Run{{0, 0, 4}, {0, 3, 1}}), ErrTaken)
	require.ErrorIs(t, m.Take([]Run{{0, 0, 4}, {1, 0, 1}}), ErrNoSegment)
	require.ErrorIs(t, m.Take([]Run{{0, 0, 4}, {0, 60, 5}}), ErrOutside)
	require.ErrorIs(t, m.Take([]Run{{0, 4, ^uint32(0)}}), ErrOutside)
	require.ErrorIs(t, m.Take([]Run{{0, 4, 0}}), ErrOutside)
	require.EqualValues(t, 64, m.Free())
}

func BenchmarkAllocate(b *testing.B) {
	m := &Map{}
	for i := range uint32(50) {
		m.Add(i, 1<<20) // 4 GiB
	}
	var live [][]Run
	r := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		if runs, ok := m.Allocate(uint64(1+r.IntN(256)), nil); ok {
			live = append(live, runs)
		} else {
			for range len(live) / 10 {
				i := r.IntN(len(live))
				m.Release(live[i])
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
		}
	}
}
