package tensor

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// guarded is mapped memory between two pages that nobody may touch: reading or
// writing one byte too far ends the test program.
type guarded struct {
	bytes []byte
}

func newGuarded(tb testing.TB, size int) *guarded {
	tb.Helper()
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	mapped, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, unix.Munmap(mapped)) })
	require.NoError(tb, unix.Mprotect(mapped[:page], unix.PROT_NONE))
	require.NoError(tb, unix.Mprotect(mapped[page+size:], unix.PROT_NONE))
	return &guarded{mapped[page : page+size : page+size]}
}

// head is the first n bytes, with the guard right below them.
func (g *guarded) head(n int) []byte { return g.bytes[:n:n] }

// tail is the last n bytes, with the guard right above them.
func (g *guarded) tail(n int) []byte { return g.bytes[len(g.bytes)-n:] }

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
