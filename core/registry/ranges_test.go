package registry

import (
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plain is what ranges must be equal to.
type plain []entry[uint64]

func (p plain) contains(start, end uintptr) bool {
	for _, e := range p {
		if e.start <= start && end <= e.end {
			return true
		}
	}
	return false
}

func (p plain) overlap(start, end uintptr) (n int) {
	for _, e := range p {
		if e.start < end && e.end > start {
			n++
		}
	}
	return n
}

func (p plain) byID(id uint64) entry[uint64] {
	return p[sort.Search(len(p), func(i int) bool { return p[i].id >= id })]
}

// step changes both sets, or asks both; what is a source of randomness.
func step(t testing.TB, r *ranges[uint64], p plain, id uint64, what func(n int) int) plain {
	span := func() (uintptr, uintptr) {
		start := uintptr(1 + what(3000))
		return start, start + uintptr(1+what(1<<what(11)))
	}
	switch start, end := span(); what(5) {
	case 0, 1:
		e := entry[uint64]{start, end, id, id}
		r.insert(e)
		p = append(p, e)
	case 2:
		if len(p) > 0 {
			i := what(len(p))
			require.True(t, r.remove(p[i].start, p[i].id))
			require.False(t, r.remove(p[i].start, p[i].id))
			p = append(p[:i:i], p[i+1:]...)
		}
	case 3:
		found, ok := r.find(start, end)
		require.Equal(t, p.contains(start, end), ok, "%d … %d", start, end)
		if ok {
			e := p.byID(found)
			require.True(t, e.start <= start && end <= e.end)
		}
	default:
		n, last := 0, ^uintptr(0)
		r.overlapping(start, end, func(from, to uintptr) bool {
			require.LessOrEqual(t, from, last)
			last = from
			n++
			return true
		})
		require.Equal(t, p.overlap(start, end), n)
	}
	require.Equal(t, len(p), r.len())
	return p
}

func TestRangesAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, keep := range []int{5, 40, 2000} {
		r, p := &ranges[uint64]{}, plain{}
		for id := range uint64(8000) {
			p = step(t, r, p, id, rng.IntN)
			for len(p) > keep {
				i := rng.IntN(len(p))
				require.True(t, r.remove(p[i].start, p[i].id))
				p = append(p[:i:i], p[i+1:]...)
			}
		}
		for len(p) > 0 {
			require.True(t, r.remove(p[0].start, p[0].id))
			p = p[1:]
		}
		require.Zero(t, r.len())
		_, ok := r.find(0, 1)
		require.False(t, ok)
	}
}

func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 0, 9, 9, 3, 1, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, p := &ranges[uint64]{}, plain{}
		at := 0
		for id := uint64(0); at < len(data) && id < 500; id++ {
			p = step(t, r, p, id, func(n int) int {
				v := 0
				for range 2 {
					if at < len(data) {
						v = v<<8 | int(data[at])
						at++
					}
				}
				return v % n
			})
		}
	})
}

// TestRangesWhileOthersLook: a range that is there throughout is always found, one that never is, never.
func TestRangesWhileOthersLook(t *testing.T) {
	r := &ranges[uint64]{}
	for i := range uint64(1500) {
		r.insert(entry[uint64]{uintptr(1000 * i), uintptr(1000*i + 500), i, i})
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for g := range uint64(2) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(g, 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := uintptr(rng.IntN(1500))
				if _, ok := r.find(1000*i+1, 1000*i+500); !ok {
					t.Errorf("%d is not found", i)
					return
				}
				if _, ok := r.find(1000*i+400, 1000*i+600); ok {
					t.Errorf("%d is found with what lies behind it", i)
					return
				}
			}
		})
	}
	for i := range uint64(4000) {
		start := uintptr(1000*(i%1500) + 600)
		r.insert(entry[uint64]{start, start + 300, 1 << 32, 0})
		require.True(t, r.remove(start, 1<<32))
	}
	close(stop)
	all.Wait()
}

func filled(n int) *ranges[uint64] {
	all := make([]entry[uint64], n)
	for i := range all {
		all[i] = entry[uint64]{uintptr(i) << 16, uintptr(i)<<16 + 65000, uint64(i), uint64(i)}
	}
	r := &ranges[uint64]{}
	t := &root[uint64]{}
	for i := 0; i < n; i += chunkMax / 2 { // as it is after many inserts
		t = t.with(len(t.chunks), all[i:min(n, i+chunkMax/2)], min(n, i+chunkMax/2))
	}
	r.root.Store(t)
	return r
}

func lookups(r *ranges[uint64], n, times int) time.Duration {
	rng := rand.New(rand.NewPCG(1, 2))
	at := make([]uintptr, 4096)
	for i := range at {
		at[i] = uintptr(rng.IntN(n))<<16 + 100
	}
	best := time.Hour
	for range 5 {
		start := time.Now()
		for i := range times {
			if _, ok := r.find(at[i%4096], at[i%4096]+4096); !ok {
				panic("not found")
			}
		}
		best = min(best, time.Since(start))
	}
	return best / time.Duration(times)
}

// TestLookupHardlyGrows: a thousand times as many ranges cost a few times as much to look in, and to change.
func TestLookupHardlyGrows(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("timed")
	}
	require.True(t, onceOf(5, func() bool {
		small, large := lookups(filled(100), 100, 200_000), lookups(filled(100_000), 100_000, 200_000)
		t.Logf("look-up: %v in 100 ranges, %v in 100 000", small, large)
		return large < 12*small+20*time.Nanosecond
	}))
	change := func(n int) time.Duration {
		r, best := filled(n), time.Hour
		for range 5 {
			start := time.Now()
			for i := range uint64(200) {
				r.insert(entry[uint64]{uintptr(i*7919) << 8, uintptr(i*7919)<<8 + 10, 1<<40 + i, 0})
				r.remove(uintptr(i*7919)<<8, 1<<40+i)
			}
			best = min(best, time.Since(start)/200)
		}
		return best
	}
	require.True(t, onceOf(5, func() bool {
		few, many := change(500), change(100_000)
		t.Logf("insert and remove: %v among 500 ranges, %v among 100 000", few, many)
		return many < 20*few
	}))
}

// onceOf reports whether something holds in one of so many tries: the machine is shared.
func onceOf(tries int, holds func() bool) bool {
	for range tries {
		if holds() {
			return true
		}
	}
	return false
}

func BenchmarkFind(b *testing.B) {
	r := filled(100_000)
	rng := rand.New(rand.NewPCG(1, 2))
	at := make([]uintptr, 4096)
	for i := range at {
		at[i] = uintptr(rng.IntN(100_000))<<16 + 100
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := r.find(at[i&4095], at[i&4095]+4096); !ok {
			b.Fatal("not found")
		}
		i++
	}
}

func BenchmarkInsertRemove(b *testing.B) {
	r := filled(100_000)
	i := uintptr(0)
	for b.Loop() {
		i = (i + 7919) % 100_000
		r.insert(entry[uint64]{i<<16 + 7, i<<16 + 8, 1 << 40, 0})
		r.remove(i<<16+7, 1<<40)
	}
}
