package arena

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func regionHasPark(t *testing.T) bool {
	t.Helper()
	r, err := OpenRegion(Options{Size: parkMin})
	require.NoError(t, err)
	defer r.Close()
	return r.park.base.Load() != 0
}

// needPark skips where a region has none.
func needPark(t *testing.T) {
	t.Helper()
	if !regionHasPark(t) {
		t.Skip("probed for MREMAP_DONTUNMAP on shared memory without RLIMIT_AS: this kernel cannot do it, or addresses are limited")
	}
}

// openParked opens a region that has a park.
func openParked(t *testing.T, sys kernel, size uint64) *Region {
	t.Helper()
	needPark(t)
	r, err := openRegion(sys, Options{Size: size})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	require.NotZero(t, r.park.base.Load())
	return r
}

// writable tries a write that changes nothing.
func writable(r *Region, off uint64) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { ok = recover() == nil }()
	b := r.WriterBytes(off, 1)
	b[0] = r.ReaderBytes(off, 1)[0]
	return true
}

func fill(b []byte, seed byte) {
	for i := range b {
		b[i] = byte(i)*31 + byte(i>>12) + seed
	}
}

func TestProtectAroundTheParksThreshold(t *testing.T) {
	r := openParked(t, linux, 16<<20)
	page := r.PageSize()
	pattern := make([]byte, r.Size())
	fill(pattern, 7)
	copy(r.WriterBytes(0, r.Size()), pattern)
	whole := func(t *testing.T) {
		require.Equal(t, pattern, r.WriterBytes(0, r.Size()))
		require.Equal(t, pattern, r.ReaderBytes(0, r.Size()))
	}
	for _, n := range []uint64{page, parkMin - page, parkMin, parkMin + page, 2<<20 - page, 2 << 20, 3<<20 + 5*page, 8 << 20} {
		for _, off := range []uint64{0, page, 1<<20 - page, 2 << 20, 2<<20 + 3*page, r.Size() - n} {
			t.Run(fmt.Sprintf("%d pages at page %d", n/page, off/page), func(t *testing.T) {
				require.NoError(t, r.Protect(off, n))
				whole(t)
				for _, at := range []uint64{off, off + n/2, off + n - 1} {
					require.False(t, writable(r, at))
				}
				require.True(t, off == 0 || writable(r, off-1))
				require.True(t, off+n == r.Size() || writable(r, off+n))
				require.NoError(t, r.Unprotect(off, n))
				for _, at := range []uint64{off, off + n/2, off + n - 1} {
					require.True(t, writable(r, at))
				}
				fill(pattern[off:off+n], byte(n/page))
				copy(r.WriterBytes(off, n), pattern[off:off+n])
				whole(t)
				require.Equal(t, 3, regionMaps())
			})
		}
	}
	require.False(t, r.park.still.Load())
}

// TestProtectLeavesMemoryWarm: what was protected is written again without a
// page fault.
func TestProtectLeavesMemoryWarm(t *testing.T) {
	r := openParked(t, linux, 64<<20)
	off, n := 3*r.PageSize(), r.Size()-5*r.PageSize()
	touch := func() {
		for at := off; at < off+n; at += r.PageSize() {
			r.WriterBytes(at, 1)[0]++
		}
	}
	touch()
	for range 3 {
		require.NoError(t, r.Protect(off, n))
		require.NoError(t, r.Unprotect(off, n))
	}
	before := minorFaults(t)
	touch()
	require.Less(t, minorFaults(t)-before, int64(n/r.PageSize()/50), "%d pages were written", n/r.PageSize())
	require.Equal(t, byte(2), r.ReaderBytes(off+n-r.PageSize(), 1)[0])
}

// TestProtectTakesTwoMappingsAnExtent is what maxProtected in package core is
// made for: two a protected extent, and none for what waits in the park.
func TestProtectTakesTwoMappingsAnExtent(t *testing.T) {
	r := openParked(t, linux, 64<<20)
	const slots = 20
	slot := r.Size() / slots &^ (r.PageSize() - 1)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	held := map[uint64]uint64{}
	for i := range 10_000 {
		off := rnd.Uint64N(slots)*slot + r.PageSize()
		if n := held[off]; n > 0 {
			require.NoError(t, r.Unprotect(off, n))
			delete(held, off)
		} else {
			n = (1 + rnd.Uint64N(slot/r.PageSize()-2)) * r.PageSize()
			r.WriterBytes(off+n-1, 1)[0] = 1
			require.NoError(t, r.Protect(off, n))
			held[off] = n
		}
		if i%500 == 0 {
			require.Equal(t, 3+2*len(held), regionMaps())
		}
	}
	for off, n := range held {
		require.NoError(t, r.Unprotect(off, n))
	}
	require.Equal(t, 3, regionMaps())
}

// TestWritesBesideProtect: a write lands, and readers see it, or it dies.
func TestWritesBesideProtect(t *testing.T) {
	r := openParked(t, linux, 8<<20)
	at := r.Size() / 2
	for range 200 {
		var landed atomic.Uint32
		var wg sync.WaitGroup
		wg.Go(func() {
			debug.SetPanicOnFault(true)
			defer func() { _ = recover() }()
			b := r.WriterBytes(at, 1)
			for i := uint32(1); ; i++ {
				b[0] = byte(i)
				landed.Store(i)
			}
		})
		for landed.Load() == 0 {
			time.Sleep(time.Microsecond)
		}
		require.NoError(t, r.Protect(0, r.Size()))
		seen := r.ReaderBytes(at, 1)[0]
		wg.Wait()
		require.Equal(t, byte(landed.Load()), seen)
		require.Equal(t, seen, r.WriterBytes(at, 1)[0])
		require.NoError(t, r.Unprotect(0, r.Size()))
	}
}

// TestReadsBesideProtect: the range is mapped at every moment.
func TestReadsBesideProtect(t *testing.T) {
	r := openParked(t, linux, 8<<20)
	fill(r.WriterBytes(0, r.Size()), 0)
	var done atomic.Bool
	var wg sync.WaitGroup
	var wrong atomic.Int64
	wg.Go(func() {
		debug.SetPanicOnFault(true)
		defer func() {
			if recover() != nil {
				wrong.Add(1)
			}
		}()
		for i := uint64(0); !done.Load(); i += 4097 {
			if at := i % r.Size(); r.WriterBytes(at, 1)[0] != byte(at)*31+byte(at>>12) {
				wrong.Add(1)
			}
		}
	})
	for range 2000 {
		require.NoError(t, r.Protect(0, r.Size()))
		require.NoError(t, r.Unprotect(0, r.Size()))
	}
	done.Store(true)
	wg.Wait()
	require.Zero(t, wrong.Load())
}

// protectsByEntry checks that protection works, and that the memory is mapped
// without a gap before and after.
func protectsByEntry(t *testing.T, r *Region) {
	t.Helper()
	n := r.Size() - 2*r.PageSize()
	fill(r.WriterBytes(0, r.Size()), 3)
	want := append([]byte(nil), r.ReaderBytes(0, r.Size())...)
	for range 2 {
		require.NoError(t, r.Protect(r.PageSize(), n))
		require.Equal(t, want, r.WriterBytes(0, r.Size()))
		require.False(t, writable(r, r.PageSize()+n/2))
		require.NoError(t, r.Unprotect(r.PageSize(), n))
		require.True(t, writable(r, r.PageSize()+n/2))
		require.Equal(t, want, r.WriterBytes(0, r.Size()))
	}
}

// TestWithoutAPark: whatever the park lacks, the region works, and nothing is
// left of the attempt.
func TestWithoutAPark(t *testing.T) {
	limited := linux
	limited.getrlimit = func(_ int, l *unix.Rlimit) error {
		*l = unix.Rlimit{Cur: 1 << 40, Max: math.MaxUint64}
		return nil
	}
	for name, sys := range map[string]kernel{
		"the kernel cannot move":          brittle("mremap", 1, unix.EINVAL),
		"no reservation":                  brittle("mmap", 3, unix.ENOMEM),
		"no mapping":                      brittle("mmap", 4, unix.ENOMEM),
		"would be dumped":                 brittle("madvise", 3, unix.EINVAL),
		"addresses are limited":           limited,
		"the limit cannot be read":        brittle("getrlimit", 1, unix.EPERM),
		"what was tried cannot be undone": brittle("munmap", 1, unix.ENOMEM),
	} {
		t.Run(name, func(t *testing.T) {
			maps := regionMaps()
			r, err := openRegion(sys, Options{Size: 4 << 20, HugePages: HugePagesOff})
			require.NoError(t, err)
			require.Zero(t, r.mapping().Park)
			require.Zero(t, r.park.base.Load())
			require.Equal(t, maps+2, regionMaps())
			protectsByEntry(t, r)
			require.NoError(t, r.Close())
			require.Equal(t, maps, regionMaps())
		})
	}
	r := openTest(t, Options{Size: parkMin / 2})
	require.Zero(t, r.park.base.Load(), "no extent of it would be parked")
	protectsByEntry(t, r)
}

// cruel is a kernel whose n-th mremap fails after it has taken the target down.
func cruel(nth int, then *func()) kernel {
	k, count := linux, 0
	k.mremap = func(addr, n, to uintptr, flags int) (uintptr, error) {
		if count++; count == nth {
			if err := linux.munmap(to, n); err != nil {
				return 0, err
			}
			if *then != nil {
				(*then)()
			}
			return 0, unix.ENOMEM
		}
		return linux.mremap(addr, n, to, flags)
	}
	return k
}

// TestMoveFails: from then on the region does without moving.
func TestMoveFails(t *testing.T) {
	var nothing func()
	for name, sys := range map[string]kernel{
		"into the park":            brittle("mremap", 2, unix.ENOMEM),
		"out of the park":          brittle("mremap", 3, unix.ENOMEM),
		"limited, into the park":   brittle("getrlimit", 2, unix.EPERM),
		"limited, out of the park": brittle("getrlimit", 3, unix.EPERM),
		"half-way into the park":   cruel(2, &nothing),
		"half-way out of the park": cruel(3, &nothing),
	} {
		t.Run(name, func(t *testing.T) {
			r := openParked(t, sys, 4<<20)
			protectsByEntry(t, r)
			require.True(t, r.park.still.Load())
			require.Equal(t, 3, regionMaps())
		})
	}
}

// TestMoveLeavesAHole: where it cannot be filled, nothing is mapped over what
// somebody else may have put there, and nothing of his is unmapped.
func TestMoveLeavesAHole(t *testing.T) {
	needPark(t)
	for name, c := range map[string]struct{ nth, maps int }{"in the park": {2, 2}, "in the writer's mapping": {3, 1}} {
		t.Run(name, func(t *testing.T) {
			before := regionMaps()
			var short bool
			then := func() { short = true }
			sys := cruel(c.nth, &then)
			sys.mmap = func(addr, n uintptr, prot, flags, fd int, off int64) (uintptr, error) {
				if short {
					return 0, unix.ENOMEM
				}
				return linux.mmap(addr, n, prot, flags, fd, off)
			}
			r, err := openRegion(sys, Options{Size: 4 << 20})
			require.NoError(t, err)
			base, n := r.park.base.Load(), uintptr(r.Size())+hugePage
			require.NoError(t, r.Protect(0, 2<<20))
			require.False(t, writable(r, 0))
			err = r.Unprotect(0, 2<<20)
			if c.nth == 2 {
				require.NoError(t, err)
				require.Zero(t, r.park.base.Load())
				require.NoError(t, r.Close())
				require.Equal(t, before+1, regionMaps(), "the rest of the park is left alone")
				require.NoError(t, linux.munmap(base, n))
			} else {
				require.ErrorIs(t, err, unix.ENOMEM)
				require.ErrorContains(t, err, "mremap")
				require.NoError(t, r.Close())
			}
			require.Equal(t, before, regionMaps())
		})
	}
}

// TestProtectFailsAfterTheMove: the extent is as it was, and warm.
func TestProtectFailsAfterTheMove(t *testing.T) {
	r := openParked(t, brittleFirst(), 8<<20)
	fill(r.WriterBytes(0, r.Size()), 1)
	require.ErrorIs(t, r.Protect(0, r.Size()), unix.ENOMEM)
	before := minorFaults(t)
	for off := uint64(0); off < r.Size(); off += r.PageSize() {
		r.WriterBytes(off, 1)[0]++
	}
	require.Less(t, minorFaults(t)-before, int64(r.Size()/r.PageSize()/10))
	require.Equal(t, 3, regionMaps())
}

// brittleFirst is the kernel with an mprotect that fails once without doing it.
func brittleFirst() kernel {
	k, count := linux, 0
	k.mprotect = func(addr, n uintptr, prot int) error {
		if count++; count == 1 {
			return unix.ENOMEM
		}
		return linux.mprotect(addr, n, prot)
	}
	return k
}

// TestParkIsPunchedToo: what is given back is gone from the park as well.
func TestParkIsPunchedToo(t *testing.T) {
	r := openParked(t, linux, 4<<20)
	fill(r.WriterBytes(0, r.Size()), 1)
	require.NoError(t, r.Protect(0, r.Size()))
	require.NoError(t, r.Punch(0, r.Size()))
	require.NoError(t, r.Unprotect(0, r.Size()))
	resident, err := r.Resident()
	require.NoError(t, err)
	require.Zero(t, resident)
	require.Equal(t, make([]byte, r.Size()), r.WriterBytes(0, r.Size()))
}
