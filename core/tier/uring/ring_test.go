package uring

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newRing skips where there is no io_uring. The test keeps its thread, as whoever has requests in flight must.
func newRing(t testing.TB, o Options) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := New(o)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("probed io_uring_setup: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		runtime.UnlockOSThread()
	})
	return r
}

func mapped(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}

// wait enters until n completions have come.
func wait(t testing.TB, r *Ring, n int) (all []Completion) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(all) < n; {
		require.NoError(t, r.Enter(uint32(n-len(all)), time.Second))
		for range r.Ready() {
			all = append(all, r.Next())
		}
		require.True(t, time.Now().Before(deadline), "%d of %d completions", len(all), n)
	}
	return all
}

func TestSizes(t *testing.T) {
	for name, s := range sizes {
		require.Equal(t, s[1], s[0], name)
	}
}

func TestRingMovesBytes(t *testing.T) {
	r := newRing(t, Options{Entries: 8})
	require.NoError(t, r.MakeFiles(4))
	require.NoError(t, r.MakeBuffers(4))
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, r.SetFile(2, int(f.Fd())))
	b := mapped(t, 16384)
	require.NoError(t, r.SetBuffer(3, addressOf(b), 16384))
	fixed, plain := Target{FD: 2, Fixed: true}, Target{FD: int32(f.Fd())}

	copy(b, "first")
	copy(b[4096:], "second")
	r.WriteFixed(fixed, 3, addressOf(b), 4096, 0, 1)
	r.Write(plain, addressOf(b)+4096, 4096, 4096, 2)
	require.Equal(t, 2, r.Written())
	for _, c := range wait(t, r, 2) {
		require.Equal(t, int32(4096), c.Result, "request %d", c.Data)
	}
	require.Zero(t, r.Written())
	r.ReadFixed(fixed, 3, addressOf(b)+8192, 4096, 4096, 3)
	r.Read(plain, addressOf(b)+12288, 4096, 0, 4)
	for _, c := range wait(t, r, 2) {
		require.Equal(t, int32(4096), c.Result, "request %d", c.Data)
	}
	require.Equal(t, "second", string(b[8192:8198]))
	require.Equal(t, "first", string(b[12288:12293]))

	require.NoError(t, r.SetFile(2, -1))
	require.NoError(t, r.SetBuffer(3, 0, 0))
	r.ReadFixed(fixed, 3, addressOf(b), 4096, 0, 5)
	require.Equal(t, -int32(unix.EBADF), wait(t, r, 1)[0].Result, "the file is gone")
	r.ReadFixed(plain, 3, addressOf(b), 4096, 0, 6)
	require.Negative(t, wait(t, r, 1)[0].Result, "and so is the buffer")
}

// A buffer is known by where it was registered, which may be unmapped since.
func TestBufferOutlivesItsMapping(t *testing.T) {
	r := newRing(t, Options{Entries: 8})
	require.NoError(t, r.MakeBuffers(1))
	fd, err := unix.MemfdCreate("uring-test", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 8192))
	again, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	at := addressOf(again)
	require.NoError(t, r.SetBuffer(0, at, 8192))
	require.NoError(t, unix.Munmap(again))

	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString("over the wall")
	require.NoError(t, err)
	r.ReadFixed(Target{FD: int32(f.Fd())}, 0, at+4096, 13, 0, 1)
	require.Equal(t, int32(13), wait(t, r, 1)[0].Result)
	got := make([]byte, 13)
	_, err = unix.Pread(fd, got, 4096)
	require.NoError(t, err)
	require.Equal(t, "over the wall", string(got))
}

func TestClonedBuffers(t *testing.T) {
	a, b := newRing(t, Options{Entries: 4}), newRing(t, Options{Entries: 4})
	for _, r := range []*Ring{a, b} {
		require.NoError(t, r.MakeBuffers(8))
	}
	memory := mapped(t, 8192)
	require.NoError(t, a.SetBuffer(5, addressOf(memory), 8192))
	if err := b.CloneBuffers(a); errors.Is(err, unix.EINVAL) {
		t.Skipf("probed IORING_REGISTER_CLONE_BUFFERS with replacing: %v", err)
	} else {
		require.NoError(t, err)
	}
	require.NoError(t, a.SetBuffer(5, 0, 0), "the other ring keeps it")
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	copy(memory, "shared")
	b.WriteFixed(Target{FD: int32(f.Fd())}, 5, addressOf(memory), 6, 0, 1)
	require.Equal(t, int32(6), wait(t, b, 1)[0].Result)
	got, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Equal(t, "shared", string(got))
}

func TestQueueWrapsAround(t *testing.T) {
	r := newRing(t, Options{Entries: 4})
	next := uint64(0)
	for round := range 1000 {
		n := 1 + round%4
		for i := range n {
			r.Nop(next + uint64(i))
		}
		for range wait(t, r, n) {
			next++
		}
	}
	require.Equal(t, 4, r.Room())
}

func TestPollAndCancel(t *testing.T) {
	r := newRing(t, Options{Entries: 8})
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(fd)
	r.PollIn(fd, 1)
	began := time.Now()
	require.NoError(t, r.Enter(1, 20*time.Millisecond))
	require.Zero(t, r.Ready(), "nothing came before the timeout")
	require.GreaterOrEqual(t, time.Since(began), 15*time.Millisecond)
	_, err = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	require.Equal(t, uint64(1), wait(t, r, 1)[0].Data)

	var drain [8]byte
	_, err = unix.Read(fd, drain[:])
	require.NoError(t, err)
	r.PollIn(fd, 2)
	require.NoError(t, r.Enter(0, 0))
	r.Cancel(2, 3)
	results := map[uint64]int32{}
	for _, c := range wait(t, r, 2) {
		results[c.Data] = c.Result
	}
	require.Equal(t, map[uint64]int32{2: -int32(unix.ECANCELED), 3: 0}, results)
}

func TestWithdraw(t *testing.T) {
	r := newRing(t, Options{Entries: 4})
	r.Nop(1)
	require.NoError(t, r.Enter(0, 0))
	r.Nop(2)
	r.Nop(3)
	var back []uint64
	r.Withdraw(func(data uint64) { back = append(back, data) })
	require.Equal(t, []uint64{3, 2}, back)
	require.Equal(t, uint64(1), wait(t, r, 1)[0].Data)
	r.Nop(4)
	require.Equal(t, uint64(4), wait(t, r, 1)[0].Data, "the queue goes on")
	require.Zero(t, r.Ready())
}

func TestBadOptions(t *testing.T) {
	for _, n := range []uint32{0, 1<<15 + 1} {
		_, err := New(Options{Entries: n})
		require.ErrorIs(t, err, unix.EINVAL)
	}
	r := newRing(t, Options{Entries: 2})
	require.Error(t, r.SetFile(0, 0), "there is no table")
	require.Error(t, r.SetBuffer(0, 4096, 4096))
	require.Error(t, r.MakeBuffers(1<<14+1))
}

func TestNothingIsLeft(t *testing.T) {
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, e := range entries {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "io_uring") {
				n++
			}
		}
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return n + strings.Count(string(maps), "io_uring")
	}
	before := count()
	for range 20 {
		r, err := New(Options{Entries: 64})
		if errors.Is(err, ErrUnavailable) {
			t.Skipf("probed io_uring_setup: %v", err)
		}
		require.NoError(t, err)
		require.NoError(t, r.MakeBuffers(16))
		require.Greater(t, count(), before)
		require.NoError(t, r.Close())
	}
	require.Equal(t, before, count())
}

// A forked child has nothing of a ring mapped: it could disturb its parent's.
func TestNotInherited(t *testing.T) {
	newRing(t, Options{Entries: 4})
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("probed /proc/self/smaps: %v", err)
	}
	maps, ours := 0, false
	for line := range strings.Lines(string(smaps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && ours {
			require.Contains(t, strings.Fields(flags), "dc", "do not copy on fork")
			maps, ours = maps+1, false
		}
		if strings.Contains(line, "[io_uring]") {
			ours = true
		}
	}
	require.Equal(t, 2, maps)
}

func TestNoAllocations(t *testing.T) {
	r := newRing(t, Options{Entries: 4})
	require.Zero(t, testing.AllocsPerRun(100, func() {
		r.Nop(1)
		if r.Enter(1, time.Second) != nil || r.Ready() != 1 || r.Next().Data != 1 {
			panic("nop")
		}
	}))
}
