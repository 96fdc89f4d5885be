package timing

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// read is a record as a read from disk leaves it.
func read(r *rand.Rand) Record {
	v := Record{Kind: Get, Path: UringFixed, Bytes: 1 << 20, Chunks: 1 + r.Uint32N(8), Depth: 1}
	v.Lookup, v.Submit, v.Verify = r.Int64N(500), r.Int64N(2000), r.Int64N(50_000)
	v.T0 = r.Int64N(1 << 40)
	v.T1 = v.T0 + v.Lookup + v.Submit + r.Int64N(100)
	v.T2 = v.T1 + r.Int64N(1_000_000)
	v.T3 = v.T2 + v.Verify + r.Int64N(100)
	v.ChunkMax = v.T2 - v.T1
	v.ChunkSum = int64(v.Chunks) * v.ChunkMax
	return v
}

func summary(t *testing.T, v Snapshot, k Kind, class Class) Summary {
	t.Helper()
	for _, one := range v.Kinds {
		if one.Kind == k && one.Class == class {
			return one
		}
	}
	require.Fail(t, "no summary", "%v %v", k, class)
	return Summary{}
}

func TestRecentAreTheLastOnesInOrder(t *testing.T) {
	r := random(t)
	c := NewRecorder(16, nil)
	require.Empty(t, c.Recent(0))
	var all []Record
	for i := range 100 {
		one := read(r)
		require.EqualValues(t, i+1, c.Add(one))
		one.Sequence = uint64(i + 1)
		all = append(all, one)
		require.Equal(t, all[max(0, len(all)-16):], c.Recent(0))
		require.Equal(t, all[max(0, len(all)-5):], c.Recent(5))
	}
	require.Len(t, NewRecorder(0, nil).ring, DefaultRecent)
}

func TestASummaryHasEveryMeasure(t *testing.T) {
	r := random(t)
	c := NewRecorder(0, nil)
	var sums [Measures]int64
	var chunks uint64
	for range 1000 {
		one := read(r)
		c.Add(one)
		for m, v := range one.measures() {
			sums[m] += v
		}
		chunks += uint64(one.Chunks)
	}
	one := summary(t, c.Snapshot(), Get, OK)
	require.EqualValues(t, 1000, one.Count)
	require.EqualValues(t, 1000<<20, one.Bytes)
	require.EqualValues(t, 1000, one.Paths[UringFixed])
	require.Equal(t, chunks, one.Chunks)
	for m := range Measures {
		require.EqualValues(t, 1000, one.Times[m].Count, m)
		require.Equal(t, sums[m], one.Times[m].Sum, m)
	}
	require.Equal(t, sums[Total], sums[Host]+sums[Device])
	require.Zero(t, one.Times[Copy].Quantile(1))
}

func TestWhatFailedIsInNoDistribution(t *testing.T) {
	c := NewRecorder(8, nil)
	good := Record{Kind: GetInto, Stamps: Stamps{0, 10, 20, 30}}
	c.Add(good)
	for _, class := range []Class{Failed, Cancelled, Cancelled} {
		one := good
		one.Class = class
		one.T3 = 1 << 40
		c.Add(one)
	}
	backwards := good
	backwards.T1, backwards.T2 = 40, 50
	c.Add(backwards)
	v := c.Snapshot()
	require.EqualValues(t, 5, v.Records)
	require.EqualValues(t, 1, v.Inconsistent)
	require.Len(t, v.Kinds, 1)
	one := summary(t, v, GetInto, OK)
	require.EqualValues(t, 1, one.Count)
	require.EqualValues(t, 1, one.Failed)
	require.EqualValues(t, 2, one.Cancelled)
	require.EqualValues(t, 30, one.Times[Total].Max)
	require.Len(t, c.Recent(0), 5, "all of them can be looked at")
}

func TestBackgroundIsApart(t *testing.T) {
	c := NewRecorder(8, nil)
	c.Add(Record{Kind: Promote, Stamps: Stamps{0, 10, 20, 30}})
	c.Add(Record{Kind: Promote, Class: Background, Stamps: Stamps{0, 10, 20, 3000}})
	c.Add(Record{Kind: Demote, Class: Failed})
	c.Add(Record{Kind: Promote, Class: Failed})
	v := c.Snapshot()
	require.Len(t, v.Kinds, 3)
	require.EqualValues(t, 30, summary(t, v, Promote, OK).Times[Total].Max)
	require.EqualValues(t, 1, summary(t, v, Promote, OK).Failed)
	require.EqualValues(t, 3000, summary(t, v, Promote, Background).Times[Total].Min)
	require.Zero(t, summary(t, v, Promote, Background).Failed)
	require.EqualValues(t, 1, summary(t, v, Demote, OK).Failed)
}

func TestAddAllocatesNothing(t *testing.T) {
	r := random(t)
	one := read(r)
	c := NewRecorder(0, nil)
	c.Add(one) // its octaves are there now
	require.Zero(t, testing.AllocsPerRun(1000, func() { c.Add(one) }))
	require.Zero(t, testing.AllocsPerRun(1000, func() { Now() }))
}

// Writers, readers of the ring and of the figures, all at once: nothing is torn, nothing lost.
func TestHammer(t *testing.T) {
	const writers, each = 8, 1000
	seed := random(t).Uint64()
	w := new(counting)
	trace := NewTrace(w)
	c := NewRecorder(64, trace)
	stop := make(chan struct{})
	var readers, running sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				last := uint64(0)
				for _, one := range c.Recent(0) {
					require.Greater(t, one.Sequence, last)
					require.EqualValues(t, one.T0, one.Bytes, "half of one and half of another")
					require.EqualValues(t, one.T0, one.Submit)
					last = one.Sequence
				}
				v := c.Snapshot()
				for _, s := range v.Kinds {
					require.GreaterOrEqual(t, s.Times[Total].Count, s.Count)
				}
			}
		})
	}
	var want [2]uint64
	var mu sync.Mutex
	for w := range writers {
		running.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			var mine [2]uint64
			for range each {
				v := r.Int64N(1 << 30)
				one := Record{Kind: Put, Bytes: uint64(v), Stamps: Stamps{v, 3 * v, 4 * v, 5 * v}, Parts: Parts{Submit: v}}
				if r.IntN(4) == 0 {
					one.Class = Failed
				}
				mine[min(int(one.Class), 1)]++
				c.Add(one)
			}
			mu.Lock()
			defer mu.Unlock()
			want[0] += mine[0]
			want[1] += mine[1]
		})
	}
	running.Wait()
	close(stop)
	readers.Wait()
	require.NoError(t, trace.Close(t.Context()))
	v := c.Snapshot()
	require.EqualValues(t, writers*each, v.Records)
	require.Zero(t, v.Inconsistent)
	one := summary(t, v, Put, OK)
	require.Equal(t, want, [2]uint64{one.Count, one.Failed})
	require.Equal(t, want[0], one.Times[Device].Count)
	require.EqualValues(t, writers*each, v.Trace.Written+v.Trace.Dropped)
	require.EqualValues(t, v.Trace.Written+2, w.lines.Load())
	require.Len(t, c.Recent(0), 64)
}

func TestOverheadIsMeasured(t *testing.T) {
	cost := Overhead()
	require.Greater(t, cost.Stamp, 0.0)
	require.Greater(t, cost.Record, cost.Stamp/10)
	require.Equal(t, cost, Overhead(), "once in a process")
}
