package arena

import (
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// logUniform draws lengths whose logarithm is evenly spread.
func logUniform(r *rand.Rand, lo, hi float64) uint64 {
	return uint64(lo * math.Exp(r.Float64()*math.Log(hi/lo)))
}

// BenchmarkAllocFree has a million extents live. "pair" allocates one more and
// frees it; "replace" frees a random one first, so that every step is in
// memory that no cache holds: compare it with the time of one cache miss.
func BenchmarkAllocFree(b *testing.B) {
	for _, c := range []struct {
		name string
		draw func(r *rand.Rand) uint64
	}{
		{"4KiB", func(*rand.Rand) uint64 { return 4 << 10 }},
		{"64B-32KiB", func(r *rand.Rand) uint64 { return logUniform(r, 64, 32<<10) }},
		{"1KiB-16MiB", func(r *rand.Rand) uint64 { return logUniform(r, 1<<10, 16<<20) }},
	} {
		b.Run(c.name+"/pair", func(b *testing.B) { benchAllocFree(b, c.draw, true) })
		b.Run(c.name+"/replace", func(b *testing.B) { benchAllocFree(b, c.draw, false) })
	}
}

func benchAllocFree(b *testing.B, draw func(r *rand.Rand) uint64, pair bool) {
	const live = 1_000_000
	a, err := NewExtents(4<<40, 4<<10)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	r := rand.New(rand.NewPCG(1, 2))
	blocks := make([]uint32, live)
	sizes := make([]uint64, 1<<16)
	at := make([]uint32, 1<<16)
	for i := range blocks {
		e, err := a.Alloc(draw(r), false)
		if err != nil {
			b.Fatal(err)
		}
		blocks[i] = e.Block
	}
	for i := range sizes {
		sizes[i], at[i] = draw(r), uint32(r.IntN(live))
	}
	// Settle: every extent has been replaced about twice.
	for range 2 * live {
		k := r.IntN(live)
		_ = a.Free(blocks[k])
		e, _ := a.Alloc(draw(r), false)
		blocks[k] = e.Block
	}
	b.ResetTimer()
	start := cpuTime(b)
	for i := range b.N {
		k := int(at[i&0xffff]+uint32(i>>16)*7919) % live
		if !pair {
			if err := a.Free(blocks[k]); err != nil {
				b.Fatal(err)
			}
		}
		e, err := a.Alloc(sizes[i&0xffff], false)
		if err != nil {
			b.Fatal(err)
		}
		if !pair {
			blocks[k] = e.Block
		} else if err := a.Free(e.Block); err != nil {
			b.Fatal(err)
		}
	}
	spent := cpuTime(b) - start
	b.StopTimer()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(spent)/float64(b.N)/missTime(b, a, live), "misses/op")
}

// missTime is the floor to compare with on a busy machine: the CPU time of
// one random access to the table, each waiting for the one before.
func missTime(b *testing.B, a *Extents, live int) float64 {
	const steps = 1_000_000
	start := cpuTime(b)
	x := uint32(1)
	for range steps {
		x = (x*1664525 + 1013904223 + a.blocks.at(1+x%uint32(live)).state)
	}
	if x == 0 {
		b.Log(x)
	}
	return float64(cpuTime(b)-start) / steps
}

func cpuTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
