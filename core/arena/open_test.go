package arena

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// brittle is the kernel with one system call that fails the n-th time.
func brittle(call string, nth int, errno error) kernel {
	return brittleFrom(new(int), call, nth, errno)
}

// brittleFrom is the same, and counts the calls in count.
func brittleFrom(count *int, call string, nth int, errno error) kernel {
	k := linux
	bad := func(name string) error {
		if name != call {
			return nil
		}
		if *count++; *count == nth {
			return errno
		}
		return nil
	}
	k.memfdCreate = func(name string, flags int) (int, error) {
		if err := bad("memfd_create"); err != nil {
			return -1, err
		}
		return linux.memfdCreate(name, flags)
	}
	k.ftruncate = func(fd int, n int64) error { return errors.Join(bad("ftruncate"), linux.ftruncate(fd, n)) }
	k.addSeals = func(fd, seals int) error { return errors.Join(bad("fcntl(F_ADD_SEALS)"), linux.addSeals(fd, seals)) }
	k.mmap = func(addr, n uintptr, prot, flags, fd int, off int64) (uintptr, error) {
		if err := bad("mmap"); err != nil {
			return 0, err
		}
		return linux.mmap(addr, n, prot, flags, fd, off)
	}
	k.madvise = func(addr, n uintptr, advice int) error {
		if err := bad("madvise"); err != nil {
			return err
		}
		return linux.madvise(addr, n, advice)
	}
	k.mprotect = func(addr, n uintptr, prot int) error {
		return errors.Join(bad("mprotect"), linux.mprotect(addr, n, prot))
	}
	k.mremap = func(addr, n, to uintptr, flags int) (uintptr, error) {
		if err := bad("mremap"); err != nil {
			return 0, err
		}
		return linux.mremap(addr, n, to, flags)
	}
	k.getrlimit = func(resource int, l *unix.Rlimit) error {
		return errors.Join(bad("getrlimit"), linux.getrlimit(resource, l))
	}
	k.munmap = func(addr, n uintptr) error { return errors.Join(bad("munmap"), linux.munmap(addr, n)) }
	k.fallocate = func(fd int, mode uint32, off, n int64) error {
		if err := bad("fallocate"); err != nil {
			return err
		}
		return linux.fallocate(fd, mode, off, n)
	}
	k.fstat = func(fd int, st *unix.Stat_t) error { return errors.Join(bad("fstat"), linux.fstat(fd, st)) }
	k.close = func(fd int) error { return errors.Join(bad("close"), linux.close(fd)) }
	return k
}

// list is a Tracker that keeps a list.
type list struct {
	untracked
	maps    map[uintptr]Mapping
	locks   int
	failAdd error
}

func (l *list) Lock() { l.untracked.Lock(); l.locks++ }

func (l *list) Add(m Mapping) error {
	if l.failAdd != nil {
		return l.failAdd
	}
	if l.maps == nil {
		l.maps = map[uintptr]Mapping{}
	}
	l.maps[m.Addr] = m
	return nil
}

func (l *list) Remove(m Mapping) { delete(l.maps, m.Addr) }

// TestOpenFailsAtEachStep: whichever step fails, the error names it and
// nothing is left behind.
func TestOpenFailsAtEachStep(t *testing.T) {
	for _, c := range []struct {
		call string
		nth  int
	}{
		{"memfd_create", 1},
		{"fstat", 1},
		{"ftruncate", 1},
		{"fcntl(F_ADD_SEALS)", 1},
		{"mmap", 1},
		{"mmap", 2},
		{"madvise", 1},
		{"madvise", 2},
	} {
		t.Run(fmt.Sprint(c.call, c.nth), func(t *testing.T) {
			maps, fds := regionMaps(), openRegions()
			l := &list{}
			_, err := open(brittle(c.call, c.nth, unix.ENOMEM), newBacking(), process, Options{Size: 1 << 20, Tracker: l})
			require.ErrorIs(t, err, unix.ENOMEM)
			require.ErrorContains(t, err, c.call)
			var step *Error
			require.ErrorAs(t, err, &step)
			require.Empty(t, l.maps)
			require.Equal(t, maps, regionMaps())
			require.Equal(t, fds, openRegions())
		})
	}
	maps, fds := regionMaps(), openRegions()
	l := &list{failAdd: errOut}
	_, err := Open(Options{Size: 1 << 20, Tracker: l})
	require.ErrorIs(t, err, errOut)
	for steps := range 2 {
		l = &list{}
		_, err = open(linux, &failing{backing: newBacking(), left: steps}, process, Options{Size: 1 << 20, Tracker: l})
		require.ErrorIs(t, err, errOut)
		require.Empty(t, l.maps)
	}
	require.Equal(t, maps, regionMaps())
	require.Equal(t, fds, openRegions())
}

func TestLaterFailures(t *testing.T) {
	try := func(call string, nth int, do func(a *Arena) error) {
		t.Helper()
		count := math.MinInt // opening is not counted
		a, err := open(brittleFrom(&count, call, nth, unix.EIO), newBacking(), process, Options{Size: 1 << 20})
		require.NoError(t, err)
		count = 0
		err = do(a)
		require.ErrorIs(t, err, unix.EIO)
		require.ErrorContains(t, err, call)
		_ = a.Close()
	}
	try("mprotect", 1, func(a *Arena) error { return a.Protect(0, 1) })
	try("mprotect", 2, func(a *Arena) error { return errors.Join(a.Protect(0, 1), a.Unprotect(0, 1)) })
	try("fstat", 1, func(a *Arena) error { _, err := a.Resident(); return err })
	try("fstat", 1, func(a *Arena) error { _, err := a.Alloc(1, false); return err })
	try("madvise", 1, func(a *Arena) error { return a.Populate(0, 1) })
	pin := func(a *Arena) error {
		_, done, err := a.Pinnable(0, a.Size())
		if err == nil {
			err = done()
		}
		return err
	}
	try("fstat", 2, pin) // the first looks at the memory that is there
	try("mmap", 1, pin)
	for nth := 1; nth <= 5; nth++ { // two of populating, two of the mapping, and its own populating
		try("madvise", nth, pin)
	}
	try("munmap", 1, pin)
	try("munmap", 1, (*Arena).Close)
	try("munmap", 2, (*Arena).Close)
	if regionHasPark(t) {
		try("munmap", 3, (*Arena).Close)
	}
	try("close", 1, (*Arena).Close)
	try("fallocate", 1, func(a *Arena) error {
		e, err := a.Alloc(100_000, false)
		require.NoError(t, err)
		require.NoError(t, a.Free(e.Block))
		before := a.Stats()
		freed, err := a.Trim()
		require.Zero(t, freed)
		require.Equal(t, before, a.Stats())
		return err
	})
}

// TestTracker: the list is complete whenever the lock is free.
func TestTracker(t *testing.T) {
	l := &list{}
	a, err := Open(Options{Size: 1 << 20, Tracker: l})
	require.NoError(t, err)
	require.Equal(t, map[uintptr]Mapping{
		a.WriterAddr(0): {FD: a.FD(), Addr: a.WriterAddr(0), Reader: a.ReaderAddr(0), Park: a.park.at, Len: uintptr(a.Size())},
	}, l.maps)
	require.NoError(t, a.Close())
	require.Empty(t, l.maps)
	require.Equal(t, 2, l.locks)
	require.NoError(t, a.Close())
	require.Equal(t, 2, l.locks)
	require.True(t, l.TryLock(), "the lock is held")
	l.Unlock()
}

// pretend is a kernel that takes ordinary pages for huge ones, so that the
// rest can be tested where no pool of them is set up.
func pretend(asked *[]int) kernel {
	k := linux
	k.memfdCreate = func(name string, flags int) (int, error) {
		*asked = append(*asked, flags)
		return linux.memfdCreate(name, flags&(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING))
	}
	k.mmap = func(addr, n uintptr, prot, flags, fd int, off int64) (uintptr, error) {
		*asked = append(*asked, flags)
		return linux.mmap(addr, n, prot, flags, fd, off)
	}
	return k
}

func TestHugePages(t *testing.T) {
	var asked []int
	l := &list{}
	a, err := open(pretend(&asked), newBacking(), limitedTo(t, 1<<20), Options{Size: 3 << 20, HugePages: HugePagesRequire, Tracker: l})
	require.NoError(t, err)
	defer a.Close()
	require.NotZero(t, asked[0]&unix.MFD_HUGETLB)
	require.Zero(t, asked[1]&unix.MAP_NORESERVE, "huge pages are reserved at mmap")
	require.Zero(t, asked[2]&unix.MAP_NORESERVE)
	require.True(t, a.HugePages())
	require.EqualValues(t, 4<<20, a.Size())
	require.EqualValues(t, 2<<20, a.PageSize())
	require.True(t, l.maps[a.WriterAddr(0)].Huge)
	e, err := a.Alloc(100, true)
	require.NoError(t, err, "the group's limit does not count huge pages")
	require.EqualValues(t, 2<<20, e.Len)
	require.NoError(t, a.Protect(e.Off+5, 1))
	require.NoError(t, a.Unprotect(e.Off, e.Len))
	require.NoError(t, a.Free(e.Block))
	freed, err := a.Trim()
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, freed)
}

func TestHugePagesShort(t *testing.T) {
	info, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	total := uint64(math.MaxUint32) // more than any pool
	if !strings.Contains(string(info), "HugePages_Total") {
		t.Skip("probed for HugePages_Total in /proc/meminfo: this kernel has no huge pages")
	}
	_, err = OpenRegion(Options{Size: total << 21, HugePages: HugePagesRequire})
	require.ErrorIs(t, err, ErrHugePages)
	for _, word := range []string{"hugepages=require", "nr_hugepages", "4294967295"} {
		require.ErrorContains(t, err, word)
	}
	r, err := openRegion(brittle("mmap", 1, unix.ENOMEM), Options{Size: 4 << 20, HugePages: HugePagesTry})
	require.NoError(t, err)
	require.False(t, r.HugePages())
	require.EqualValues(t, os.Getpagesize(), r.PageSize())
	require.NoError(t, r.Close())

	// A page that cannot be filled although it was reserved.
	var asked []int
	k := pretend(&asked)
	k.madvise = func(addr, n uintptr, advice int) error {
		if advice == unix.MADV_POPULATE_WRITE {
			return unix.EFAULT
		}
		return linux.madvise(addr, n, advice)
	}
	_, err = openRegion(k, Options{Size: 4 << 20, HugePages: HugePagesRequire})
	require.ErrorIs(t, err, ErrHugePages)
	require.ErrorIs(t, err, unix.EFAULT)
}

// TestHugePagesReal runs where the machine has some.
func TestHugePagesReal(t *testing.T) {
	free := readFields("/proc/meminfo")["HugePages_Free"]
	if free < 4 {
		t.Skipf("probed for HugePages_Free in /proc/meminfo: %d, 4 wanted", free)
	}
	a, err := Open(Options{Size: 8 << 20, HugePages: HugePagesRequire, Prefault: PrefaultOpen})
	require.NoError(t, err)
	resident, err := a.Resident()
	require.NoError(t, err)
	require.EqualValues(t, 8<<20, resident)
	e, err := a.Alloc(3<<20, true)
	require.NoError(t, err)
	require.NoError(t, a.Protect(e.Off, e.Len))
	require.NoError(t, a.Unprotect(e.Off, e.Len))
	copy(a.WriterBytes(e.Off, e.Len), "abc")
	require.Equal(t, "abc", string(a.ReaderBytes(e.Off, 3)))
	require.NoError(t, a.Free(e.Block))
	freed, err := a.Trim()
	require.NoError(t, err)
	require.EqualValues(t, 8<<20, freed)
	require.NoError(t, a.Close())
}

func TestTrim(t *testing.T) {
	var asked [][2]uint64
	refuse := true
	held := 0
	a, err := Open(Options{Size: 160 << 20, TrimGuard: func(off, n uint64) (func(), bool) {
		asked = append(asked, [2]uint64{off, n})
		if refuse && off < 64<<20 {
			return nil, false
		}
		held++
		return func() { held-- }, true
	}})
	require.NoError(t, err)
	defer a.Close()
	all, err := a.Alloc(160<<20, false)
	require.NoError(t, err)
	b := a.WriterBytes(all.Off, all.Len)
	page := a.PageSize()
	for i := uint64(0); i < all.Len; i += page {
		b[i] = 1
	}
	require.NoError(t, a.Free(all.Block))
	small, err := a.Alloc(100, false) // in the last page, which stays
	require.NoError(t, err)

	freed, err := a.Trim()
	require.NoError(t, err)
	require.Equal(t, [][2]uint64{{0, 64 << 20}, {64 << 20, 64 << 20}, {128 << 20, 32<<20 - page}}, asked)
	require.Equal(t, 96<<20-page, freed)
	require.Zero(t, held)
	resident, err := a.Resident()
	require.NoError(t, err)
	require.Equal(t, 64<<20+page, resident)
	require.Equal(t, resident, a.Touched())
	require.Equal(t, byte(1), a.ReaderBytes(page, 1)[0])

	refuse = false
	freed, err = a.Trim()
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, freed)
	freed, err = a.Trim()
	require.NoError(t, err)
	require.Zero(t, freed)
	require.NoError(t, a.Free(small.Block))
	require.NoError(t, a.Close())
	_, err = a.Trim()
	require.ErrorIs(t, err, ErrClosed)
}

func needPopulate(t *testing.T) {
	t.Helper()
	r := openTest(t, Options{Size: 1 << 20})
	if err := r.Populate(0, 1); errors.Is(err, ErrNoPopulate) {
		t.Skip("probed for MADV_POPULATE_WRITE:", err)
	}
}

func TestPrefaultOpen(t *testing.T) {
	needPopulate(t)
	a, err := Open(Options{Size: 24 << 20, Prefault: PrefaultOpen})
	require.NoError(t, err)
	defer a.Close()
	resident, err := a.Resident()
	require.NoError(t, err)
	require.Equal(t, a.Size(), resident)
	require.Equal(t, a.Size(), a.Touched())
	require.NoError(t, a.PrefaultErr())

	maps, fds := regionMaps(), openRegions()
	_, err = open(linux, newBacking(), limitedTo(t, 8<<20), Options{Size: 24 << 20, Prefault: PrefaultOpen})
	require.ErrorIs(t, err, ErrMemoryLimit)
	cannot := linux
	cannot.madvise = func(addr, n uintptr, advice int) error {
		if advice == unix.MADV_POPULATE_WRITE {
			return unix.EINVAL
		}
		return linux.madvise(addr, n, advice)
	}
	_, err = open(cannot, newBacking(), process, Options{Size: 24 << 20, Prefault: PrefaultOpen})
	require.ErrorIs(t, err, ErrNoPopulate)
	require.Equal(t, maps, regionMaps())
	require.Equal(t, fds, openRegions())
}

func TestPrefaultBackground(t *testing.T) {
	needPopulate(t)
	a, err := Open(Options{Size: 48 << 20, Prefault: PrefaultBackground})
	require.NoError(t, err)
	a.filler.Wait()
	require.NoError(t, a.PrefaultErr())
	require.Equal(t, a.Size(), a.Touched())
	require.NoError(t, a.Close())

	a, err = open(linux, newBacking(), limitedTo(t, 12<<20), Options{Size: 48 << 20, Prefault: PrefaultBackground})
	require.NoError(t, err)
	a.filler.Wait()
	require.ErrorIs(t, a.PrefaultErr(), ErrMemoryLimit)
	require.Zero(t, a.Touched())
	require.NoError(t, a.Close())
}

// TestCloseStopsPrefault: Close does not wait for the whole of it.
func TestCloseStopsPrefault(t *testing.T) {
	slow := linux
	var steps atomic.Int32
	slow.madvise = func(addr, n uintptr, advice int) error {
		if advice == unix.MADV_POPULATE_WRITE {
			steps.Add(1)
			time.Sleep(5 * time.Millisecond)
			return nil
		}
		if advice == unix.MADV_POPULATE_READ {
			return nil
		}
		return linux.madvise(addr, n, advice)
	}
	a, err := open(slow, newBacking(), &memory{root: t.TempDir()}, Options{Size: 64 << 30, Prefault: PrefaultBackground})
	require.NoError(t, err)
	for steps.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, a.Close())
	require.Less(t, int(steps.Load()), 2000, "of 4096 steps")
	require.NoError(t, a.PrefaultErr())
}

// TestOpenCloseIsFlat: nothing grows over many arenas.
func TestOpenCloseIsFlat(t *testing.T) {
	cycles := 500
	if os.Getenv("MOORAGE_SOAK_MINUTES") != "" {
		cycles = 10_000
	}
	if testing.Short() {
		cycles = 50
	}
	once := func() {
		a, err := Open(Options{Size: 1 << 20, Prefault: PrefaultBackground})
		require.NoError(t, err)
		e, err := a.Alloc(100_000, false)
		require.NoError(t, err)
		a.WriterBytes(e.Off, e.Len)[0] = 1
		require.NoError(t, a.Close())
	}
	once()
	look := func() (int, int, int) { return allMaps(t), len(descriptors()), runtime.NumGoroutine() }
	maps, fds, goroutines := look()
	for range cycles {
		once()
	}
	maps2, fds2, goroutines2 := look()
	require.LessOrEqual(t, maps2, maps+8, "mappings (the Go heap may add some)")
	require.LessOrEqual(t, fds2, fds)
	require.LessOrEqual(t, goroutines2, goroutines)
}

func allMaps(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(maps), "\n")
}
