package evict

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The store sees a policy as this.
type policy interface {
	Added(Candidate)
	Removed()
	Next() (Candidate, bool)
	Evicted(Candidate)
	Refused(Candidate, Reason)
	Clear()
	Usage() Usage
}

var (
	_ policy = (*S3FIFO)(nil)
	_ policy = None{}
)

func TestNoneHasNoCandidate(t *testing.T) {
	var p None
	p.Added(Candidate{Unit: 1, Seq: 1, Bytes: 64})
	_, ok := p.Next()
	require.False(t, ok)
	p.Removed()
	p.Evicted(Candidate{})
	p.Refused(Candidate{}, Held)
	p.Clear()
	require.Zero(t, p.Usage())
}

// store is a cells array with a policy over it.
type store struct {
	cells
	*S3FIFO
	seq uint64
}

func newStore(capacity uint64, units int) *store {
	s := &store{cells: make(cells, units)}
	s.S3FIFO = NewS3FIFO(capacity, s.cells)
	return s
}

func (s *store) put(unit uint32, bytes, hash uint64) {
	s.seq++
	s.cells[unit] = cell{seq: s.seq}
	s.Added(Candidate{Unit: unit, Seq: s.seq, Bytes: bytes, Hash: hash})
}

func (s *store) remove(unit uint32) {
	s.cells[unit] = cell{}
	s.Removed()
}

func (s *store) evict(t testing.TB) Candidate {
	c, ok := s.Next()
	require.True(t, ok)
	s.cells[c.Unit] = cell{}
	s.Evicted(c)
	return c
}

func TestOneHitWondersLeaveBeforeReusedOnes(t *testing.T) {
	const n = 1000
	s := newStore(n*64, n)
	for u := range uint32(n) {
		s.put(u, 64, uint64(u))
		if u%2 == 0 {
			s.hit(u)
			s.hit(u)
		}
	}
	for i := range n / 2 {
		if c := s.evict(t); c.Unit%2 == 0 {
			// The small queue's share was reached: its last tenth stays in it.
			require.GreaterOrEqual(t, i, n*9/20-1)
			break
		}
	}
}

func TestGhostHitGoesToMain(t *testing.T) {
	s := newStore(100*64, 200)
	for u := range uint32(100) {
		s.put(u, 64, uint64(u))
	}
	gone := s.evict(t)
	s.put(gone.Unit, 64, gone.Hash)
	require.Equal(t, 1, s.Usage().MainObjects)
	s.remove(gone.Unit)
	s.put(gone.Unit, 64, gone.Hash)
	require.Equal(t, 1, s.Usage().MainObjects, "a ghost is good for one return")
}

func TestLargeObjectsGoToMain(t *testing.T) {
	s := newStore(10_000, 20)
	s.put(0, 960, 0)
	s.put(1, 1024, 1)
	require.Equal(t, Usage{SmallObjects: 1, MainObjects: 1, SmallBytes: 960, MainBytes: 1024},
		func() Usage { u := s.Usage(); u.Memory = 0; return u }())

	// All large: CLOCK. The one in use stays while the others come and go.
	s = newStore(10_000, 20)
	for u := range uint32(8) {
		s.put(u, 1216, uint64(u))
	}
	for i := range 100 {
		s.hit(3)
		c := s.evict(t)
		require.NotEqual(t, uint32(3), c.Unit)
		s.put(c.Unit, 1216, uint64(100+i))
	}
}

func TestSizesAreKeptInGranules(t *testing.T) {
	for _, test := range []struct{ in, want uint64 }{
		{0, 0}, {1, 64}, {64, 64}, {65, 128}, {1 << 30, 1 << 30},
		{1 << 38, 1<<38 - 64}, {1<<64 - 1, 1<<38 - 64},
	} {
		require.Equal(t, test.want, newEntry(Candidate{Bytes: test.in}).bytes(), test.in)
	}
}

func TestRefusalsEnd(t *testing.T) {
	const n = 3000
	for _, test := range []struct {
		name  string
		reads int
		calls int // at most
	}{
		{"cold", 0, n}, {"hot", 3, 2 * n},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(n*64, n)
			for u := range uint32(n) {
				s.put(u, 64, uint64(u))
				for range test.reads {
					s.hit(u)
				}
			}
			for range 3 { // the round after a failed one is whole again
				seen := map[uint32]bool{}
				calls := 0
				for c, ok := s.Next(); ok; c, ok = s.Next() {
					calls++
					require.LessOrEqual(t, calls, test.calls)
					seen[c.Unit] = true
					s.Refused(c, Held)
					for range test.reads { // readers never stop
						s.hit(c.Unit)
					}
				}
				require.Len(t, seen, n)
			}
			require.Equal(t, n, s.Usage().SmallObjects+s.Usage().MainObjects)
		})
	}
}

// Whatever is not held is found in one round, however hot it is and wherever
// it waits.
func TestTheOneFreeObjectIsFound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		n := 1 + r.Uint32N(60)
		s := newStore(uint64(n)*64, int(n)+1)
		for u := range n {
			s.put(u, 64+64*uint64(r.IntN(12)), uint64(u))
		}
		for range r.Uint32N(3) { // rounds without success, then newer objects
			for c, ok := s.Next(); ok; c, ok = s.Next() {
				s.Refused(c, Held)
				s.hit(r.Uint32N(n))
			}
			u := r.Uint32N(n)
			s.remove(u)
			s.put(u, 64, uint64(u))
		}
		free, found := r.Uint32N(n), false
		for c, ok := s.Next(); ok && !found; c, ok = s.Next() {
			found = c.Unit == free
			s.Refused(c, Held)
			s.hit(free)
			s.hit(r.Uint32N(n))
		}
		require.True(t, found)
	}
}

func TestWorkOfOneCallIsBounded(t *testing.T) {
	const n = 20_000
	s := newStore(n*64, n)
	counting := &countingCells{cells: s.cells}
	s.counters = counting
	for u := range uint32(n) {
		s.put(u, 64, uint64(u))
		s.hit(u)
		s.hit(u)
	}
	for range 100 {
		counting.loads = 0
		s.evict(t)
		require.LessOrEqual(t, counting.loads, maxPassed+1)
	}
	for u := range uint32(n) {
		if s.cells[u].seq != 0 {
			counting.loads = 0
			s.remove(u)
			require.LessOrEqual(t, counting.loads, staleSteps)
		}
	}
}

type countingCells struct {
	cells
	loads int
}

func (c *countingCells) Load(o Candidate) (uint8, bool) {
	c.loads++
	return c.cells.Load(o)
}

func TestClearForgets(t *testing.T) {
	s := newStore(64*64, 200)
	for u := range uint32(100) {
		s.put(u, 64, uint64(u))
	}
	s.evict(t)
	s.Clear()
	require.Zero(t, s.Usage())
	_, ok := s.Next()
	require.False(t, ok)
	s.put(1, 64, 0)
	require.Equal(t, 1, s.Usage().SmallObjects)
}

func TestEntriesHoldNoPointers(t *testing.T) {
	require.Equal(t, blockBytes, int(reflect.TypeFor[block]().Size()))
	require.Equal(t, memoryBytes, int(reflect.TypeFor[memory]().Size()))
	for _, of := range []reflect.Type{reflect.TypeFor[entry](), reflect.TypeFor[memory]()} {
		for i := range of.NumField() {
			k := of.Field(i).Type.Kind()
			require.True(t, k == reflect.Uint32 || k == reflect.Uint64, of.Field(i).Name)
		}
	}
}

// fixedBytes is what a policy may occupy beside 40 bytes for each live object.
const fixedBytes = 100 << 10

func (s *store) requireSmall(t testing.TB) {
	u := s.Usage()
	if u.Memory > uint64(40*s.live+fixedBytes) {
		require.Fail(t, "too much memory", "%d live, %+v", s.live, u)
	}
}

func TestMemoryOfAFullStore(t *testing.T) {
	const n = 200_000
	var before, after runtime.MemStats
	cells := make(cells, n)
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := &store{cells: cells, S3FIFO: NewS3FIFO(n*64, cells)}
	for u := range uint32(n) {
		s.put(u, 64, uint64(u))
	}
	for i := range uint64(3 * n) {
		c := s.evict(t)
		s.put(c.Unit, 64, n+i)
		s.hit(c.Unit)
		if i%3 == 0 {
			s.hit(c.Unit)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	u := s.Usage()
	require.GreaterOrEqual(t, u.Ghosts, n*8/10)
	t.Logf("%.1f B per object by count, %.1f by the heap", float64(u.Memory)/n, heap/n)
	require.LessOrEqual(t, u.Memory, uint64(36*n))
	require.LessOrEqual(t, heap, float64(40*n))
	runtime.KeepAlive(s)
}

// Objects come and go without one eviction, in three orders of going, and with
// a ghost of full size.
func TestMemoryUnderRemoval(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const n, rounds = 50_000, 1_000_000
	for name, pick := range map[string]func(i int) uint32{
		"oldest": func(i int) uint32 { return uint32(i % n) },
		"random": func(int) uint32 { return r.Uint32N(n) },
		"newest": func(int) uint32 { return n - 1 - r.Uint32N(n/10) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(n*64, n)
			for u := range uint32(n) {
				s.put(u, 64, uint64(u))
			}
			for i := range uint64(2 * n) {
				c := s.evict(t)
				s.put(c.Unit, 64, n+i)
			}
			for i := range rounds {
				u := pick(i)
				s.remove(u)
				s.put(u, 64, uint64(10*n+i))
				if i%1000 == 0 {
					s.requireSmall(t)
				}
			}
			// All go, none comes.
			order := r.Perm(n)
			if name == "newest" {
				slices.Sort(order)
				slices.Reverse(order)
			}
			for i, u := range order {
				s.remove(uint32(u))
				if i%1000 == 0 {
					s.requireSmall(t)
				}
			}
			s.requireSmall(t)
			_, ok := s.Next()
			require.False(t, ok)
			require.Zero(t, s.Usage().SmallBytes+s.Usage().MainBytes)
		})
	}
}

// The drain that a sweep catches up with last: the newest go first.
func TestMemoryWhileDraining(t *testing.T) {
	const n = 50_000
	for _, newest := range []bool{true, false} {
		s := newStore(n*64, n)
		for i := range uint64(3 * n) {
			unit := uint32(i)
			if i >= n {
				unit = s.evict(t).Unit
			}
			s.put(unit, 64, i)
		}
		units := make([]uint32, n)
		for u := range units {
			units[u] = uint32(u)
		}
		slices.SortFunc(units, func(a, b uint32) int { return int(s.cells[a].seq) - int(s.cells[b].seq) })
		if newest {
			slices.Reverse(units)
		}
		for _, u := range units {
			s.remove(u)
			s.requireSmall(t)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	const n = 5000
	s := newStore(n*64, n)
	for u := range uint32(n) {
		s.put(u, 64, uint64(u))
	}
	next := uint64(n)
	turn := func() {
		for range 1000 {
			c, _ := s.Next()
			s.Evicted(c)
			s.put(c.Unit, 64, next)
			if next++; next%4 == 0 {
				s.hit(c.Unit)
				s.hit(c.Unit)
			}
		}
	}
	for range 50 {
		turn()
	}
	require.Zero(t, testing.AllocsPerRun(100, turn))
}

func BenchmarkEvictAndAdd(b *testing.B) {
	for name, n := range map[string]int{"10k": 10_000, "1M": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			s := newStore(uint64(n)*64, n)
			r := rand.New(rand.NewPCG(1, 2))
			for u := range uint32(n) {
				s.put(u, 64, uint64(u))
			}
			next := uint64(n)
			turn := func() {
				c, _ := s.Next()
				s.Evicted(c)
				s.put(c.Unit, 64, next)
				next++
				if next%4 == 0 {
					u := r.Uint32N(uint32(n))
					s.hit(u)
					s.hit(u)
				}
			}
			for range 2 * n {
				turn()
			}
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
		})
	}
}

func BenchmarkRemoveAndAdd(b *testing.B) {
	const n = 1_000_000
	s := newStore(n*64, n)
	r := rand.New(rand.NewPCG(1, 2))
	for u := range uint32(n) {
		s.put(u, 64, uint64(u))
	}
	b.ReportAllocs()
	for i := uint64(n); b.Loop(); i++ {
		u := r.Uint32N(n)
		s.remove(u)
		s.put(u, 64, i)
	}
}

func BenchmarkGhostRebuild(b *testing.B) {
	const n = 1_000_000
	var g ghost
	for i := range uint64(n) {
		g.add(i, n)
	}
	for b.Loop() {
		g.rebuild(n)
	}
}
