package blockio

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const benchFile = 1 << 30

// BenchmarkRead reads objects at random places of a file, one at a time: on each path, and by one pread into a reused buffer.
// What the disk gives changes while this runs; BenchmarkAgainstFio compares in turns.
func BenchmarkRead(b *testing.B) {
	name := filepath.Join(b.TempDir(), "segment")
	fillFile(b, name, benchFile)
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20, 16 << 20, 256 << 20} {
		for path := range Layer {
			b.Run(fmt.Sprintf("%d KiB/%v", size>>10, path), func(b *testing.B) { benchPath(b, name, size, path) })
		}
		b.Run(fmt.Sprintf("%d KiB/one pread", size>>10), func(b *testing.B) { benchPread(b, name, size) })
	}
}

func fillFile(b testing.TB, name string, size int) {
	f, err := os.Create(name)
	require.NoError(b, err)
	defer func() { require.NoError(b, f.Close()) }()
	chunk := make([]byte, 16<<20)
	pattern(chunk, 3)
	for off := 0; off < size; off += len(chunk) {
		_, err := f.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, f.Sync())
	require.NoError(b, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func openFile(b testing.TB, name string, flags int) osFile {
	f, err := os.OpenFile(name, flags, 0)
	require.NoError(b, err)
	b.Cleanup(func() { _ = f.Close() })
	return osFile{f}
}

func benchPath(b *testing.B, name string, size int, path Path) {
	e := open(b, Options{MaxPath: path})
	f := openFile(b, name, os.O_RDWR|unix.O_DIRECT)
	s, err := e.Add(f, true)
	require.NoError(b, err)
	buffer := memory(b, size)
	pattern(buffer, 4)
	r := &Request{Pieces: []Piece{{addressOf(buffer), s, 0, size, register(b, e, buffer)}}}
	cpu := processor()
	var device, bytes int64
	b.SetBytes(int64(size))
	for b.Loop() {
		r.Pieces[0].Off = int64(rand.IntN(benchFile/size)) * int64(size)
		if path == Buffered {
			_ = unix.Fadvise(f.FD(), r.Pieces[0].Off, int64(size), unix.FADV_DONTNEED)
		}
		times, err := e.Do(context.Background(), r)
		require.NoError(b, err)
		device += times.Last - times.First
		bytes += int64(size)
	}
	report(b, cpu, bytes)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds()-device)/float64(b.N), "host-ns/op")
}

func benchPread(b *testing.B, name string, size int) {
	f := openFile(b, name, os.O_RDONLY|unix.O_DIRECT)
	buffer := memory(b, size)
	pattern(buffer, 4)
	cpu := processor()
	var bytes int64
	b.SetBytes(int64(size))
	for b.Loop() {
		off := int64(rand.IntN(benchFile/size)) * int64(size)
		for done := 0; done < size; {
			n, err := unix.Pread(f.FD(), buffer[done:], off+int64(done))
			require.NoError(b, err)
			done += n
		}
		bytes += int64(size)
	}
	report(b, cpu, bytes)
}

func report(b *testing.B, before, bytes int64) {
	b.ReportMetric(float64(processor()-before)/1e9/(float64(bytes)/(1<<30)), "cpu-s/GiB")
}

// processor is the time that this process has spent, in nanoseconds.
func processor() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkGo keeps 16 objects of 16 MiB under way.
func BenchmarkGo(b *testing.B) {
	const size, many = 16 << 20, 16
	name := filepath.Join(b.TempDir(), "segment")
	fillFile(b, name, benchFile)
	e := open(b, Options{})
	s, err := e.Add(openFile(b, name, os.O_RDWR|unix.O_DIRECT), true)
	require.NoError(b, err)
	buffer := memory(b, many*size)
	pattern(buffer, 6)
	g := register(b, e, buffer)
	free := make(chan int, many)
	var requests [many]Request
	for i := range requests {
		requests[i].Pieces = []Piece{{addressOf(buffer) + uintptr(i*size), s, 0, size, g}}
		free <- i
	}
	cpu := processor()
	b.SetBytes(size)
	for b.Loop() {
		i := <-free
		requests[i].Pieces[0].Off = int64(rand.IntN(benchFile/size)) * size
		e.Go(&requests[i], func(_ Times, err error) {
			if err != nil {
				panic(err)
			}
			free <- i
		})
	}
	for range many {
		<-free
	}
	report(b, cpu, int64(b.N)*size)
}

// BenchmarkOpen makes and closes an engine with all its rings.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		e, err := Open(Options{})
		require.NoError(b, err)
		require.NoError(b, e.Close())
	}
}

// BenchmarkRegister pins and lets go a slab in all rings.
func BenchmarkRegister(b *testing.B) {
	e := open(b, Options{})
	m := newShared(b, 64<<20, unix.PROT_READ|unix.PROT_WRITE)
	pattern(m.b, 5)
	for b.Loop() {
		g, err := e.Register(addressOf(m.b), addressOf(m.b), uintptr(m.size), 0)
		require.NoError(b, err)
		require.NoError(b, g.Deregister())
	}
}

// BenchmarkAdd makes a file known to all rings, and forgets it.
func BenchmarkAdd(b *testing.B) {
	e := open(b, Options{})
	f, direct := create(b, nil)
	for b.Loop() {
		s, err := e.Add(f, direct)
		require.NoError(b, err)
		require.NoError(b, e.Drop(s))
	}
}
