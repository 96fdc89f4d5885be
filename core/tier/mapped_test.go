package tier

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tier/file/faulty"
)

func TestMapped(t *testing.T) {
	dir, src := t.TempDir(), fill(memory(t, 1_500_003, 0), 1)
	d, err := Open(Options{Dir: dir, Capacity: 16 << 20, SegmentBytes: 4 << 20, Mapped: true})
	require.NoError(t, err)
	e := writeBytes(t, d, "a", 1, src)
	for range 50 {
		from := rand.IntN(len(src))
		n := 1 + rand.IntN(len(src)-from)
		dst := memory(t, n, rand.IntN(2))
		io, err := d.Read(background, e, at(dst), uint64(from), uint64(n))
		require.NoError(t, err)
		require.True(t, string(src[from:from+n]) == string(dst), "%d bytes from %d", n, from)
		require.True(t, io.Mapped && io.Verified)
		require.EqualValues(t, n, io.Bounced, "each byte is copied")
		require.Positive(t, io.Last-io.First)
	}
	e.Release()
	// A file that got shorter under the mapping: an error, and no signal.
	require.NoError(t, os.Truncate(filepath.Join(dir, segmentName(0)), 100_000))
	e, _ = d.Lookup([]byte("a"))
	dst := memory(t, len(src), 0)
	_, err = d.Read(background, e, at(dst), 0, uint64(len(src)))
	require.ErrorIs(t, err, errMapped)
	e.Release()
	require.NoError(t, d.Close())

	d = openDisk(t, faulty.New(), Options{Mapped: true})
	e = writeBytes(t, d, "a", 1, src)
	_, err = d.Read(background, e, at(dst), 0, uint64(len(src)))
	require.ErrorIs(t, err, errMapped, "no file of the kernel's")
	e.Release()
	require.NoError(t, d.Close())
}
