package arena

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// needGathering skips where the kernel does not make huge pages of ordinary ones on request.
func needGathering(t *testing.T) {
	t.Helper()
	r := openTest(t, Options{Size: hugePage})
	require.NoError(t, r.sys.madvise(r.writer, uintptr(r.page), unix.MADV_POPULATE_WRITE))
	if err := r.sys.madvise(r.writer, hugePage, unix.MADV_COLLAPSE); err != nil {
		t.Skipf("probed madvise(MADV_COLLAPSE): %v", err)
	}
}

// TestGather: what is made ready lies in huge pages, in both mappings, with what was in it.
func TestGather(t *testing.T) {
	needGathering(t)
	const size = 9<<20 + 4096 // the last piece is none
	r := openTest(t, Options{Size: size})
	copyOf := make([]byte, size)
	fill(copyOf, 3)
	copy(r.WriterBytes(0, size), copyOf)
	require.Zero(t, inHugePages(t, r.writer))
	require.NoError(t, r.Populate(0, size))
	require.Equal(t, uint64(8<<20), inHugePages(t, r.writer))
	require.Equal(t, uint64(8<<20), inHugePages(t, r.reader))
	require.Equal(t, copyOf, r.ReaderBytes(0, size))
	resident, err := r.Resident()
	require.NoError(t, err)
	require.Equal(t, r.Size(), resident)

	// What stands in them can be protected and given back by ordinary pages.
	require.NoError(t, r.Protect(4096, 3<<20))
	require.False(t, writable(r, 4096))
	require.True(t, writable(r, 0))
	require.NoError(t, r.Unprotect(4096, 3<<20))
	require.NoError(t, r.Punch(3*4096, 5*4096))
	require.NoError(t, r.Punch(2<<20, 4<<20))
	resident, err = r.Resident() // before it is read: reading a hole fills it
	require.NoError(t, err)
	require.Equal(t, r.Size()-5*4096-4<<20, resident)
	clear(copyOf[3*4096 : 8*4096])
	clear(copyOf[2<<20 : 6<<20])
	require.Equal(t, copyOf, r.ReaderBytes(0, size))
}

// TestGatherIsNotForAll: not when it was not wanted, and no more than whole pieces.
func TestGatherIsNotForAll(t *testing.T) {
	needGathering(t)
	r := openTest(t, Options{Size: 8 << 20, HugePages: HugePagesOff})
	require.NoError(t, r.Populate(0, r.Size()))
	require.Zero(t, inHugePages(t, r.writer))

	r = openTest(t, Options{Size: 8 << 20})
	require.NoError(t, r.Populate(4096, 4<<20))
	require.Equal(t, uint64(hugePage), inHugePages(t, r.writer))
	resident, err := r.Resident()
	require.NoError(t, err)
	require.Equal(t, uint64(4<<20), resident, "nothing beside the range")
}

// TestPinnableGathers: a device finds huge pages, also where objects lie already.
func TestPinnableGathers(t *testing.T) {
	needGathering(t)
	a, err := Open(Options{Size: 8 << 20})
	require.NoError(t, err)
	x, err := a.Alloc(3<<20, true)
	require.NoError(t, err)
	fill(a.WriterBytes(x.Off, 3<<20), 9)
	require.NoError(t, a.Protect(x.Off, 3<<20))
	addr, done, err := a.Pinnable(0, a.Size())
	require.NoError(t, err)
	require.Equal(t, a.Size(), inHugePages(t, addr))
	want := make([]byte, 3<<20)
	fill(want, 9)
	require.Equal(t, want, a.ReaderBytes(x.Off, 3<<20))
	require.False(t, writable(a.Region, x.Off))
	require.NoError(t, done())
	require.NoError(t, a.Unprotect(x.Off, 3<<20))
	require.NoError(t, a.Free(x.Block))
	_, err = a.Trim()
	require.NoError(t, err)
	resident, err := a.Resident()
	require.NoError(t, err)
	require.Zero(t, resident)
	require.NoError(t, a.Close())
}

// TestGatheringIsAWish: whatever the kernel says to it, memory is made ready.
func TestGatheringIsAWish(t *testing.T) {
	for _, c := range []struct {
		errno error
		asked int
	}{{unix.EINVAL, 1}, {unix.ENOMEM, 4}, {unix.EBUSY, 4}, {unix.EAGAIN, 4}} {
		asked := 0
		sys := linux
		sys.madvise = func(addr, n uintptr, advice int) error {
			if advice == unix.MADV_COLLAPSE {
				asked++
				return c.errno
			}
			return linux.madvise(addr, n, advice)
		}
		r, err := openRegion(sys, Options{Size: 8 << 20})
		require.NoError(t, err)
		require.NoError(t, r.Populate(0, r.Size()))
		require.Equal(t, c.asked, asked, "%v", c.errno)
		resident, err := r.Resident()
		require.NoError(t, err)
		require.Equal(t, r.Size(), resident)
		require.NoError(t, r.Close())
	}
}

// TestMappingsLieLikeTheFile: and where there is no room to choose from, they lie somewhere, and nothing is left over.
func TestMappingsLieLikeTheFile(t *testing.T) {
	r := openTest(t, Options{Size: 4<<20 + 8192})
	require.Zero(t, r.writer%hugePage)
	require.Zero(t, r.reader%hugePage)
	for name, sys := range map[string]kernel{
		"no reservation":            brittle("mmap", 1, unix.ENOMEM),
		"no place in it":            brittle("mmap", 2, unix.ENOMEM),
		"the rest cannot be undone": brittle("munmap", 1, unix.ENOMEM),
	} {
		t.Run(name, func(t *testing.T) {
			before := regionMaps()
			r, err := openRegion(sys, Options{Size: 4 << 20})
			require.NoError(t, err)
			require.NoError(t, r.Populate(0, r.Size()))
			r.WriterBytes(5, 1)[0] = 6
			require.Equal(t, byte(6), r.ReaderBytes(5, 1)[0])
			require.NoError(t, r.Close())
			require.Equal(t, before, regionMaps())
		})
	}
}
