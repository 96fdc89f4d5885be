package blockio

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/registry"
)

// shared is memory of a file, as a store's is, under two addresses; the one that goes into requests is read-only when it is
// asked for.
type shared struct {
	fd   int
	b    []byte
	size int
}

func newShared(t testing.TB, n, prot int) *shared {
	t.Helper()
	fd, err := unix.MemfdCreate("blockio-test", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, int64(n)))
	b, err := unix.Mmap(fd, 0, n, prot, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, unix.Munmap(b))
		require.NoError(t, unix.Close(fd))
	})
	return &shared{fd, b, n}
}

func (m *shared) again(t testing.TB, off, n int) (b []byte, done func()) {
	t.Helper()
	b, err := unix.Mmap(m.fd, int64(off), n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	return b, func() { require.NoError(t, unix.Munmap(b)) }
}

func needFixed(t testing.TB, e *Engine) {
	t.Helper()
	b := memory(t, 4096)
	if !register(t, e, b).Registered() {
		t.Skip("probed registering a page with io_uring: not here")
	}
}

// The memory is named by addresses other than those it was registered at, which are unmapped when it is used, and
// where the caller could not even write.
func TestRegisteredThroughAnotherMapping(t *testing.T) {
	needRings(t)
	const size = 1 << 20
	e := open(t, Options{ChunkBytes: 128 << 10})
	needFixed(t, e)
	m := newShared(t, size, unix.PROT_READ)
	w, done := m.again(t, 0, size)
	pattern(w, 21)
	g, err := e.Register(addressOf(w), addressOf(m.b), size, 0)
	require.NoError(t, err)
	done()
	require.Equal(t, uint64(size), e.Stats().Registered-4096)

	f, direct := create(t, make([]byte, size))
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	before := append([]byte{}, m.b...)
	for _, buffer := range []registry.Region{g, nil} { // read-only memory is good enough to write from
		times, err := e.Do(context.Background(), &Request{Write: true, Pieces: []Piece{{addressOf(m.b), s, 0, size, buffer}}})
		require.NoError(t, err)
		require.Equal(t, buffer != nil, times.Path == UringFixed)
		got, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		same(t, before, got)
		require.NoError(t, f.Truncate(0))
		require.NoError(t, f.Truncate(size))
	}
	content := make([]byte, size)
	pattern(content, 22)
	require.NoError(t, os.WriteFile(f.Name(), content, 0o600))
	_, err = e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(m.b) + 8192, s, 4096, size - 8192, g}}})
	require.NoError(t, err)
	copy(before[8192:], content[4096:size-4096])
	same(t, before, m.b)
	if s.path <= Uring {
		_, err = e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(m.b), s, 0, size, nil}}})
		require.ErrorIs(t, err, unix.EFAULT, "but not to read into, unless it is registered")
	}
	require.NoError(t, g.Deregister())
	require.NoError(t, g.Deregister())
	require.Equal(t, uint64(4096), e.Stats().Registered)
}

// A store's memory, as core/registry hands it out.
type slab struct {
	*shared
	t testing.TB
}

func (m slab) Size() uint64  { return uint64(m.size) }
func (slab) HugePages() bool { return false }

func (m slab) Contains(addr uintptr) (uint64, bool) {
	start := addressOf(m.b)
	return uint64(addr - start), addr >= start && addr < start+uintptr(m.size)
}

func (m slab) WriterAddr(off uint64) uintptr { return addressOf(m.b) + uintptr(off) }

func (m slab) Pinnable(off, n uint64) (uintptr, func() error, error) {
	b, done := m.again(m.t, int(off), int(n))
	return addressOf(b), func() error { done(); return nil }, nil
}

func TestEngineIsADeviceOfARegistry(t *testing.T) {
	needRings(t)
	const size = 65 << 20 // a slab, and some of the next
	e := open(t, Options{})
	needFixed(t, e)
	m := slab{newShared(t, size, unix.PROT_READ|unix.PROT_WRITE), t}
	reg := registry.New(&registry.Locks{}, m)
	defer reg.Close()
	device, err := reg.Attach(e)
	require.NoError(t, err)
	require.Equal(t, e.Name(), device.Name())
	content := make([]byte, 8<<20)
	pattern(content, 23)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)

	addr := m.WriterAddr(60 << 20)
	var room [2]registry.Piece
	pieces, err := reg.Acquire(device, addr, 5<<20, room[:0])
	require.NoError(t, err)
	require.Len(t, pieces, 2, "an object over the border of two slabs")
	r := &Request{}
	off := int64(0)
	for _, p := range pieces {
		r.Pieces = append(r.Pieces, Piece{p.Addr, s, off, int(p.Size), p.Region})
		off += int64(p.Size)
	}
	times, err := e.Do(context.Background(), r)
	require.NoError(t, err)
	if direct {
		require.Equal(t, UringFixed, times.Path)
	}
	same(t, content[:5<<20], m.b[60<<20:])
	for i := range pieces {
		pieces[i].End()
	}
	require.NoError(t, reg.Detach(context.Background(), device))
	require.Equal(t, uint64(4096), e.Stats().Registered)
}

// Memory that is larger than one place of the kernel's table.
func TestRegionOfSeveralParts(t *testing.T) {
	needRings(t)
	const size = 5*16384 + 4096
	e := open(t, Options{ChunkBytes: 12288})
	needFixed(t, e)
	e.table.part = 16384
	content := make([]byte, size)
	pattern(content, 24)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	b := memory(t, size)
	g := register(t, e, b)
	require.Len(t, g.parts, 6)
	_, err = e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b) + 4096, s, 4096, size - 8192, g}}})
	require.NoError(t, err)
	same(t, content[4096:size-4096], b[4096:size-4096])
}

// What the kernel cannot take is moved unregistered, counted each time and logged once.
func TestTablesAreFull(t *testing.T) {
	needRings(t)
	var said []string
	e := open(t, Options{Buffers: 2, Files: 1, Log: func(s string) { said = append(said, s) }})
	needFixed(t, e)
	content := make([]byte, 65536)
	pattern(content, 25)
	for i := range 4 {
		f, direct := create(t, content)
		s, err := e.Add(f, direct)
		require.NoError(t, err)
		b := memory(t, len(content))
		g := register(t, e, b)
		require.Equal(t, i < 1, g.Registered())
		times, err := e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), g}}})
		require.NoError(t, err)
		if direct {
			require.Equal(t, g.Registered(), times.Path == UringFixed)
			require.Equal(t, i < 1, s.target.Fixed)
		}
		same(t, content, b)
	}
	require.Len(t, said, 2)
	require.Equal(t, uint64(6), e.Stats().Fallbacks)
	require.Equal(t, uint64(4096+65536), e.Stats().Registered)
}

// A kernel that makes rings but no sparse tables: as the engine is after that was counted.
func TestWithoutTables(t *testing.T) {
	needRings(t)
	e := open(t, Options{})
	e.files.make(0)
	e.table.places.make(0)
	content := make([]byte, 65536)
	pattern(content, 29)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	b := memory(t, len(content))
	g := register(t, e, b)
	require.False(t, g.Registered())
	times, err := e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), g}}})
	require.NoError(t, err)
	if direct {
		require.Equal(t, Uring, times.Path)
	}
	same(t, content, b)
	require.Zero(t, e.Stats().Fallbacks)
	require.NoError(t, e.Drop(s))
}

// Where rings cannot clone a table, each pins for itself.
func TestWithoutCloning(t *testing.T) {
	needRings(t)
	e := open(t, Options{Rings: 2})
	needFixed(t, e)
	e.table.noClone = true
	content := make([]byte, 65536)
	pattern(content, 26)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	b := memory(t, len(content))
	r := &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), register(t, e, b)}}}
	for range 2 { // the rings take turns
		clear(b)
		_, err := e.Do(context.Background(), r)
		require.NoError(t, err)
		same(t, content, b)
	}
	clear(b)
	done := make(chan error)
	e.Go(r, func(_ Times, err error) { done <- err })
	require.NoError(t, <-done)
	same(t, content, b)
}

func TestBadRegistrations(t *testing.T) {
	e := open(t, Options{})
	for _, c := range [][3]uintptr{{0, 4096, 4096}, {4096, 4096, 0}, {^uintptr(0) - 4095, 4096, 8192}, {4096, ^uintptr(0) - 4095, 8192}} {
		_, err := e.Register(c[0], c[1], c[2], 0)
		require.ErrorIs(t, err, ErrInvalid)
	}
	require.Zero(t, e.Stats().Registered)
}

const plainUser = "BLOCKIO_PLAIN_USER"

// A plain user may lock 8 MiB or so. More is moved unregistered.
func TestMemlock(t *testing.T) {
	needRings(t)
	if os.Getenv(plainUser) != "" {
		asPlainUser(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("probed the user: only root can become another one")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) //nolint:gosec // another user runs the program from there
	require.NoError(t, os.Chmod(dir, 0o777))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	program := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(program, self, 0o755))
	c := exec.Command("prlimit", "--memlock=8388608:8388608", program, "-test.run=^TestMemlock$", "-test.v")
	c.Env = append(os.Environ(), plainUser+"=1", "TMPDIR="+dir)
	c.Dir = dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("probed prlimit: it is not installed")
	}
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("probed as a plain user: %s", out)
	}
}

func asPlainUser(t *testing.T) {
	var said []string
	e := open(t, Options{Log: func(s string) { said = append(said, s) }})
	small, large := memory(t, 4<<20), memory(t, 64<<20)
	require.True(t, register(t, e, small).Registered(), "%v", said)
	content := make([]byte, 64<<20)
	pattern(content, 27)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	for range 2 {
		g := register(t, e, large)
		require.False(t, g.Registered())
		times, err := e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(large), s, 0, len(large), g}}})
		require.NoError(t, err)
		if direct {
			require.Equal(t, Uring, times.Path)
		}
		same(t, content, large)
	}
	require.Len(t, said, 1)
	require.Contains(t, said[0], "RLIMIT_MEMLOCK")
	require.Equal(t, uint64(2), e.Stats().Fallbacks)
	require.Equal(t, uint64(4<<20), e.Stats().Registered)
}

// Without a descriptor left there are no rings. The engine reads with pread, and says so once.
func TestNoRings(t *testing.T) {
	needRings(t)
	var limit, none unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none = limit
	probe, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(probe))
	none.Cur = uint64(probe) + 3 // some rings are made, then no more
	content := make([]byte, 1<<20)
	pattern(content, 28)
	f, direct := create(t, content)
	var said []string
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	e, err := Open(Options{Log: func(s string) { said = append(said, s) }})
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	require.Zero(t, descriptors("io_uring"))
	require.Len(t, said, 1)
	require.Contains(t, said[0], "too many open files")
	require.Equal(t, uint64(1), e.Stats().Fallbacks)
	require.Zero(t, e.Stats().Rings)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	b := memory(t, len(content))
	g := register(t, e, b)
	require.False(t, g.Registered())
	times, err := e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), g}}})
	require.NoError(t, err)
	if direct {
		require.Equal(t, Direct, times.Path)
	}
	same(t, content, b)
	require.Equal(t, uint64(1), e.Stats().Fallbacks)
}

func TestNoAllocations(t *testing.T) {
	needRings(t)
	content := make([]byte, 1<<20)
	for _, path := range []Path{UringFixed, Uring} {
		e := open(t, Options{MaxPath: path, ChunkBytes: 64 << 10})
		f, direct := create(t, content)
		s, err := e.Add(f, direct)
		require.NoError(t, err)
		if s.path > Uring {
			t.Skip("probed O_DIRECT: not on this file system")
		}
		b := memory(t, len(content))
		chunks := 0
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, r := range []*Request{
			{Pieces: []Piece{{addressOf(b), s, 0, len(b), register(t, e, b)}}},
			{Pieces: []Piece{{addressOf(b), s, 0, 4096, nil}}},
			{Pieces: []Piece{{addressOf(b), s, 0, len(b), nil}}, Chunk: func(int, int, int) { chunks++ }},
			{Write: true, Pieces: []Piece{{addressOf(b), s, 0, len(b), nil}}},
		} {
			require.Zero(t, testing.AllocsPerRun(20, func() {
				if _, err := e.Do(ctx, r); err != nil {
					panic(err)
				}
			}), path)
			done := make(chan struct{}, 1)
			told := func(_ Times, err error) {
				if err != nil {
					panic(err)
				}
				done <- struct{}{}
			}
			require.Zero(t, testing.AllocsPerRun(20, func() {
				e.Go(r, told)
				<-done
			}), path)
		}
		require.Equal(t, 16*2*21, chunks)
	}
	runtime.GC()
}
