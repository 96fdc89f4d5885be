package arena

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestPinnable: what the fourth mapping shows is the memory, writable where the writer's is not, all there, not for
// children, and trim gives back afterwards what it made the kernel allocate.
func TestPinnable(t *testing.T) {
	for _, size := range []uint64{1 << 20, 5 << 20} {
		a, err := Open(Options{Size: size})
		require.NoError(t, err)
		off, n := uint64(0), size
		if size > 1<<20 {
			off, n = 1<<20, 3<<20 // a part of one free block
		}
		x, err := a.Alloc(64<<10, true)
		require.NoError(t, err)
		at := x.Off
		require.NoError(t, a.Protect(at, 64<<10))

		addr, done, err := a.Pinnable(off, n)
		require.NoError(t, err)
		resident, err := a.Resident()
		require.NoError(t, err)
		require.GreaterOrEqual(t, resident, n)
		if at >= off {
			bytesAt(addr+uintptr(at-off), 4)[0] = 77 // protected in the writer's
			require.Equal(t, byte(77), a.ReaderBytes(at, 1)[0])
		}
		bytesAt(addr, n)[n-1] = 78
		require.Equal(t, byte(78), a.ReaderBytes(off+n-1, 1)[0])
		require.NoError(t, done())

		require.NoError(t, a.Unprotect(at, 64<<10))
		require.NoError(t, a.Free(x.Block))
		_, err = a.Trim()
		require.NoError(t, err)
		resident, err = a.Resident()
		require.NoError(t, err)
		require.Zero(t, resident, "what was pinned in passing stays for ever")
		require.NoError(t, a.Close())
		_, _, err = a.Pinnable(0, 4096)
		require.ErrorIs(t, err, ErrClosed)
	}
}

// TestPinnableNotInherited: the mapping is a way into the parent's memory.
func TestPinnableNotInherited(t *testing.T) {
	a, err := Open(Options{Size: 1 << 20})
	require.NoError(t, err)
	addr, done, err := a.Pinnable(0, a.Size())
	require.NoError(t, err)
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	flags := vmFlags(string(smaps), addr)
	require.Contains(t, flags, "dc") // do not copy on fork
	require.Contains(t, flags, "dd") // do not dump
	require.NoError(t, done())
	require.NoError(t, a.Close())
}

// TestPinnableOfAnotherFile: a descriptor that somebody closed, and whose number stands for something else by now, must
// not be mapped as memory of the store.
func TestPinnableOfAnotherFile(t *testing.T) {
	a, err := Open(Options{Size: 1 << 20})
	require.NoError(t, err)
	keep, err := unix.Dup(a.FD())
	require.NoError(t, err)
	other, err := os.CreateTemp(t.TempDir(), "other")
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(int(other.Fd()), a.FD(), unix.O_CLOEXEC))
	_, _, err = a.Pinnable(0, a.Size())
	require.ErrorIs(t, err, unix.EBADF)
	require.NoError(t, unix.Dup3(keep, a.FD(), unix.O_CLOEXEC))
	require.NoError(t, unix.Close(keep))
	require.NoError(t, other.Close())
	require.NoError(t, a.Close())
}

// TestPinnableDoesNotWait for a sweep, which may go through the whole region.
func TestPinnableDoesNotWait(t *testing.T) {
	a, err := Open(Options{Size: 1 << 20})
	require.NoError(t, err)
	a.sweep.turn.Lock()
	require.Equal(t, a.Size(), a.coldBytes(0, a.Size()))
	_, done, err := a.Pinnable(0, a.Size())
	require.NoError(t, err)
	require.NoError(t, done())
	a.sweep.turn.Unlock()
	require.NoError(t, a.Close())
	require.Zero(t, a.coldBytes(0, 4096))
}
