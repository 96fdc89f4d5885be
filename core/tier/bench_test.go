package tier

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tier/file/faulty"
)

// million puts so many objects without bytes of their own on disk: the index, the journal and Open are what is measured.
func million(b *testing.B, o Options, n int) {
	b.Helper()
	d, err := Open(o)
	require.NoError(b, err)
	for i := range n {
		w, err := d.Reserve(fmt.Appendf(nil, "kv/model/layer/%08d/0123456789abcdef", i), uint64(i+1), 0)
		require.NoError(b, err)
		_, err = w.Commit(index.Content{Tensor: true, Code: 2, Bits: 16, Lanes: 1, Shape: []int64{2, 256, 8, 128}})
		require.NoError(b, err)
	}
	require.NoError(b, d.Close())
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkOpen opens a directory of a million objects with keys of 40 bytes: from a journal alone, and from a snapshot.
func BenchmarkOpen(b *testing.B) {
	for name, snapshot := range map[string]int64{"journal": 1 << 40, "snapshot": 0} {
		b.Run(name, func(b *testing.B) {
			n := 1_000_000
			o := Options{Dir: b.TempDir(), Capacity: 1 << 30, SnapshotBytes: snapshot}
			million(b, o, n)
			before := heap()
			for b.Loop() {
				d, err := Open(o)
				require.NoError(b, err)
				b.StopTimer()
				require.Equal(b, n, d.Len())
				b.ReportMetric(float64(d.Recovered().Took.Milliseconds()), "open-ms")
				b.ReportMetric(float64(heap()-before)/float64(n), "heap-B/object")
				b.ReportMetric(float64(d.Stats().JournalBytes)/float64(n), "journal-B/object")
				require.NoError(b, d.Close())
				b.StartTimer()
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	d := openDisk(b, faulty.New(), Options{Durability: None})
	s := newScratch(b, 100)
	for i := range 100_000 {
		_, err := s.put(d, fmt.Sprint("key ", i), uint64(i+1), 0)
		require.NoError(b, err)
	}
	absent, present := []byte("kv/model/layer/00000000/0123456789abcdef"), []byte("key 777")
	b.Run("absent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := d.Lookup(absent); ok {
				b.Fatal("it is there")
			}
		}
	})
	b.Run("present", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e, ok := d.Lookup(present)
			if !ok {
				b.Fatal("it is not there")
			}
			e.Release()
		}
	})
	require.NoError(b, d.Close())
}

// BenchmarkRead reads from a directory of the real file system, past the page cache where that can be done.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	if other := os.Getenv("MOORAGE_BENCH_DIR"); other != "" {
		dir = other
	}
	for _, size := range []int{16 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20} {
		for _, verify := range []Verify{Off, Always} {
			b.Run(fmt.Sprintf("%d/verify %v", size, verify), func(b *testing.B) {
				d, err := Open(Options{Dir: filepath.Join(dir, fmt.Sprint(size, verify)), Capacity: 512 << 20, Verify: verify})
				require.NoError(b, err)
				s := newScratch(b, size)
				n := (256 << 20) / max(size, 1<<20)
				for i := range n {
					_, err := s.put(d, fmt.Sprint(i), d.MaxSeq()+1, size)
					require.NoError(b, err)
				}
				b.SetBytes(int64(size))
				i := 0
				var device int64
				for b.Loop() {
					e, _ := d.Lookup(fmt.Append(nil, i%n))
					io, err := d.Read(background, e, at(s.out), 0, uint64(size))
					require.NoError(b, err)
					device += io.Last - io.First
					e.Release()
					i++
				}
				b.ReportMetric(float64(device)/float64(b.N), "device-ns/op")
				require.NoError(b, d.Close())
			})
		}
	}
}
