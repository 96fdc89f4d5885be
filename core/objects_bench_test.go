package core

import (
	"bufio"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

// key40 is the key of 40 bytes of object i.
func key40(buf []byte, i uint64) []byte {
	buf = append(buf[:0], "model/layers/attention/tensor/00"...)
	return binary.BigEndian.AppendUint64(buf, i*0x9e3779b97f4a7c15)
}

// BenchmarkObjects is a store with many small objects: what each costs beside its bytes (index, record, cell, extent),
// how long a get takes, and what Go's collector spends while the program makes garbage. Ten million objects only with
// MOORAGE_BENCH set: they take half a minute to make.
func BenchmarkObjects(b *testing.B) {
	counts := []int{10_000, 1_000_000}
	if os.Getenv("MOORAGE_BENCH") != "" {
		counts = append(counts, 10_000_000)
	}
	for _, count := range counts {
		b.Run(strconv.Itoa(count), func(b *testing.B) { benchObjects(b, count) })
	}
}

func benchObjects(b *testing.B, count int) {
	const size = 64
	before := privateMemory(b)
	s := open(b, Options{Capacity: uint64(count)*size + 64<<20})
	data := make([]byte, size)
	var key []byte
	for i := range count {
		key = key40(key, uint64(i))
		if _, err := s.Put(key, data, PutOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	each := float64(privateMemory(b)-before) / float64(count)
	p50, p99 := getQuantiles(b, s, count)
	spent := collectorShare(b, s, count)

	r := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		key = key40(key, r.Uint64N(uint64(count)))
		getRelease(b, s, key)
	}
	b.ReportMetric(each, "B/object")
	b.ReportMetric(p50, "p50-ns")
	b.ReportMetric(p99, "p99-ns")
	b.ReportMetric(spent, "%gc")
}

func getRelease(b *testing.B, s *Store, key []byte) {
	v, err := s.Get(key)
	if err != nil {
		b.Fatal(err)
	}
	v.Release()
}

// privateMemory is what the process occupies beside files and regions, after a collection.
func privateMemory(tb testing.TB) int64 {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/status")
	require.NoError(tb, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(tb, err)
			return n << 10
		}
	}
	tb.Skip("probed /proc/self/status: no RssAnon")
	return 0
}

// getQuantiles times single gets of random objects, less what reading the clock costs, in nanoseconds: the best of
// several rounds, as other programs on the machine only ever add.
func getQuantiles(b *testing.B, s *Store, count int) (p50, p99 float64) {
	const rounds, samples = 9, 50_000
	r := rand.New(rand.NewPCG(3, 4))
	clock := time.Duration(1 << 40)
	for range 1000 {
		start := time.Now()
		clock = min(clock, time.Since(start))
	}
	times := make([]time.Duration, samples)
	var key []byte
	for round := range rounds {
		for i := range times {
			key = key40(key, r.Uint64N(uint64(count)))
			start := time.Now()
			getRelease(b, s, key)
			times[i] = time.Since(start) - clock
		}
		slices.Sort(times)
		half, high := float64(times[samples/2]), float64(times[samples*99/100])
		if round == 0 {
			p50, p99 = half, high
		}
		p50, p99 = min(p50, half), min(p99, high)
	}
	return p50, p99
}

var garbage []byte

// collectorShare is the share of the CPU, in percent, that the collector takes in three seconds of gets beside 200 MB/s
// of garbage, made in small pieces as programs do. What it does while there is nothing else to do does not count.
func collectorShare(b *testing.B, s *Store, count int) float64 {
	const rate, piece = 200 << 20, 4 << 10
	read := func() (spent, total float64) {
		samples := []metrics.Sample{
			{Name: "/cpu/classes/gc/total:cpu-seconds"},
			{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
			{Name: "/cpu/classes/total:cpu-seconds"},
		}
		runtime.GC() // the figures are those of the last cycle
		metrics.Read(samples)
		return samples[0].Value.Float64() - samples[1].Value.Float64(), samples[2].Value.Float64()
	}
	r := rand.New(rand.NewPCG(5, 6))
	var key []byte
	spentBefore, totalBefore := read()
	begin := time.Now()
	for made := 0; time.Since(begin) < 3*time.Second; {
		for range 16 {
			key = key40(key, r.Uint64N(uint64(count)))
			getRelease(b, s, key)
		}
		if float64(made) < rate*time.Since(begin).Seconds() {
			garbage = make([]byte, piece)
			made += piece
		}
	}
	spent, total := read()
	return 100 * (spent - spentBefore) / (total - totalBefore)
}

// BenchmarkShape is what a shape of four dimensions costs each object.
func BenchmarkShape(b *testing.B) {
	const count = 1_000_000
	f32, err := tensor.ParseDType("float32")
	require.NoError(b, err)
	src := tensor.Source{DType: f32, Shape: []int64{0, 8, 128, 64}}
	fill := func(put func(key []byte) error) float64 {
		before := privateMemory(b)
		var key []byte
		for i := range count {
			key = key40(key, uint64(i))
			if err := put(key); err != nil {
				b.Fatal(err)
			}
		}
		return float64(privateMemory(b)-before) / count
	}
	for b.Loop() {
		plain, shaped := open(b, Options{}), open(b, Options{})
		without := fill(func(key []byte) error { _, err := plain.Put(key, nil, PutOptions{}); return err })
		with := fill(func(key []byte) error { _, err := shaped.PutTensor(key, src, PutOptions{}); return err })
		b.ReportMetric(with-without, "B/shape")
		require.NoError(b, plain.Close(true))
		require.NoError(b, shaped.Close(true))
	}
}

// BenchmarkGetReleaseCores is Get and Release on one core, and what a second core gains: rounds of both in turns, and
// of pure computing, which says whether the second core was free. The keys fit into a core's cache.
func BenchmarkGetReleaseCores(b *testing.B) {
	const keys, calls, rounds = 1024, 100_000, 31
	s := open(b, Options{})
	all := make([][]byte, keys)
	for i := range all {
		all[i] = key40(nil, uint64(i))
		put(b, s, string(all[i]), nil)
	}
	gets := func(worker int) {
		for i := range calls {
			getRelease(b, s, all[(i*7919+worker*keys/2)%keys])
		}
	}
	sums := make([]uint64, 16)
	computing := func(worker int) {
		x := uint64(worker + 1)
		for range calls * 40 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		sums[worker*8] = x
	}
	if runtime.GOMAXPROCS(0) < 2 {
		b.Skip("probed GOMAXPROCS: less than two cores")
	}
	for b.Loop() {
		var one, gained, free []float64
		for range rounds {
			single := together(1, gets)
			one = append(one, float64(single.Nanoseconds())/calls)
			gained = append(gained, 2*float64(single)/float64(together(2, gets)))
			free = append(free, 2*float64(together(1, computing))/float64(together(2, computing)))
		}
		b.ReportMetric(slices.Min(one), "one-ns")
		b.ReportMetric(middle(gained), "x-one-core")
		b.ReportMetric(middle(free), "x-probe")
	}
}

// together is how long n workers need that start at the same time.
func together(n int, work func(worker int)) time.Duration {
	done := make(chan struct{})
	begin := time.Now()
	for i := range n {
		go func() {
			work(i)
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	return time.Since(begin)
}

func middle(figures []float64) float64 {
	slices.Sort(figures)
	return figures[len(figures)/2]
}
