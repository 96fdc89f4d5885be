package blockio

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/tier/uring"
	"moorage/internal/leak"
)

// TestMain fails when the tests have left a ring, a mapping of one, an eventfd, or a goroutine.
func TestMain(m *testing.M) {
	os.Exit(leak.Run(m, leftovers))
}

func leftovers() (left string) {
	if n := descriptors("io_uring") + descriptors("eventfd:moorage"); n != 0 {
		left += fmt.Sprintf("%d rings; ", n)
	}
	if maps, _ := os.ReadFile("/proc/self/maps"); strings.Contains(string(maps), "io_uring") {
		left += "mappings of rings; "
	}
	return left + leak.Goroutines("moorage/core")
}

// descriptors counts those whose target contains a word.
func descriptors(word string) (n int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if t, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(t, word) {
			n++
		}
	}
	return n
}

// needRings skips where there is no io_uring.
func needRings(t testing.TB) {
	t.Helper()
	r, err := uring.New(uring.Options{Entries: 2})
	if err != nil {
		t.Skipf("probed io_uring_setup: %v", err)
	}
	require.NoError(t, r.Close())
}

func open(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// memory is n bytes on whole pages between two pages that nobody may touch.
func memory(t testing.TB, n int) []byte {
	t.Helper()
	page := os.Getpagesize()
	whole := (n + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, whole+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	require.NoError(t, unix.Mprotect(b[:page], unix.PROT_NONE))
	require.NoError(t, unix.Mprotect(b[page+whole:], unix.PROT_NONE))
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b[page : page+n : page+n]
}

// pattern fills memory with bytes that tell where they belong.
func pattern(b []byte, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i+8 <= len(b); i += 8 {
		v := random.Uint64()
		for k := range 8 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
}

// osFile is a file of the system.
type osFile struct{ *os.File }

func (f osFile) FD() int { return int(f.Fd()) }

// create makes a file with content, and opens it for direct I/O where the file system can.
func create(t testing.TB, content []byte) (f osFile, direct bool) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "segment")
	require.NoError(t, os.WriteFile(name, content, 0o600))
	opened, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Logf("probed O_DIRECT: %v", err)
		opened, err = os.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = opened.Close() })
		return osFile{opened}, false
	}
	t.Cleanup(func() { _ = opened.Close() })
	return osFile{opened}, true
}

// register gives memory to an engine in the way a store does: through a mapping that is gone when it returns.
func register(t testing.TB, e *Engine, b []byte) *Region {
	t.Helper()
	g, err := e.Register(addressOf(b), addressOf(b), uintptr(len(b)), 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Deregister()) })
	return g.(*Region)
}

func same(t testing.TB, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		for i := range want {
			if want[i] != got[i] {
				require.Failf(t, "other bytes", "from %d of %d on", i, len(want))
			}
		}
	}
}
