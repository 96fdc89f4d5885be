package faulty

import (
	"bytes"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/tier/file"
)

func create(t *testing.T, d *Dir, name string) file.File {
	t.Helper()
	f, err := d.Open(name, file.Create)
	require.NoError(t, err)
	return f
}

func store(t *testing.T, f file.File, off int64, p []byte) {
	t.Helper()
	n, err := f.WriteAt(p, off)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
}

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// Every crash keeps what was synced and shows nothing that was never written; over many seeds, both the loss and the
// survival of each unsynced thing come up, and tears at sectors only.
func TestCrash(t *testing.T) {
	d := New()
	f := create(t, d, "a")
	store(t, f, 0, fill(1, 4096))
	require.NoError(t, f.Sync())
	require.NoError(t, d.Sync())
	store(t, f, 0, fill(2, 2048))
	store(t, f, 1024, fill(3, 4096))
	store(t, create(t, d, "b"), 0, fill(4, 10))
	seen := map[string]int{}
	for seed := range uint64(400) {
		c := d.Crash(seed)
		require.Equal(t, c.Bytes("a"), d.Crash(seed).Bytes("a"), "seed %d is not the same twice", seed)
		a := c.Bytes("a")
		require.GreaterOrEqual(t, len(a), 4096)
		for i := 0; i < 4096; i += Sector {
			require.Equal(t, fill(a[i], Sector), a[i:i+Sector], "seed %d: torn inside a sector", seed)
			legal := map[byte]bool{1: i < 1024 || i >= 1024, 2: i < 2048, 3: i >= 1024}
			require.True(t, legal[a[i]], "seed %d: %d at %d", seed, a[i], i)
		}
		require.Empty(t, bytes.Trim(a[4096:], "\x00\x03"))
		seen["first "+string('0'+rune(a[0]))]++
		seen["overlap "+string('0'+rune(a[1024]))]++
		if a[1024] != a[1536] || a[2048] != a[2560] {
			seen["torn"]++
		}
		if c.Bytes("b") == nil {
			seen["name lost"]++
		} else {
			seen["name kept"]++
		}
	}
	for _, what := range []string{"first 1", "first 2", "overlap 1", "overlap 2", "overlap 3", "torn", "name lost", "name kept"} {
		require.NotZero(t, seen[what], what)
	}
}

func TestKillKeepsWhatWasWritten(t *testing.T) {
	d := New()
	require.NoError(t, d.Lock())
	store(t, create(t, d, "a"), 0, []byte("abc"))
	k := d.Kill()
	require.Equal(t, []byte("abc"), k.Bytes("a"))
	require.NoError(t, k.Lock(), "the lock went with the process")
	lost := 0
	for seed := range uint64(50) {
		if k.Crash(seed).Bytes("a") == nil {
			lost++
		}
	}
	require.NotZero(t, lost, "a kill makes nothing durable")
}

func TestRenamesAreWhole(t *testing.T) {
	d := New()
	store(t, create(t, d, "old"), 0, []byte("old"))
	f := create(t, d, "new")
	store(t, f, 0, []byte("new"))
	require.NoError(t, f.Sync())
	g, err := d.Open("old", 0)
	require.NoError(t, err)
	require.NoError(t, g.Sync())
	require.NoError(t, d.Sync())
	require.NoError(t, d.Rename("new", "old"))
	for seed := range uint64(100) {
		c := d.Crash(seed)
		if c.Bytes("new") == nil {
			require.Equal(t, "new", string(c.Bytes("old")))
		} else {
			require.Equal(t, "old", string(c.Bytes("old")))
		}
	}
	_, err = d.Open("new", 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestTruncateComesBack(t *testing.T) {
	d := New()
	f := create(t, d, "a")
	store(t, f, 0, fill(7, 1000))
	require.NoError(t, f.Sync())
	require.NoError(t, d.Sync())
	require.NoError(t, f.Truncate(10))
	require.NoError(t, f.Allocate(0, 100))
	sizes := map[int]bool{}
	for seed := range uint64(200) {
		b := d.Crash(seed).Bytes("a")
		sizes[len(b)] = true
		require.Equal(t, fill(7, 10), b[:10])
	}
	require.True(t, sizes[1000] && sizes[100], "%v", sizes)
}

func TestRules(t *testing.T) {
	d := New()
	f := create(t, d, "segment-1")
	store(t, f, 0, fill(1, 4096))
	buffer := make([]byte, 1024)

	r := d.Inject(Rule{Op: Read, Name: "segment-*", From: 1024, To: 2048, Skip: 1, Times: 1, Err: unix.EIO})
	_, err := f.ReadAt(buffer, 0)
	require.NoError(t, err, "not these bytes")
	_, err = f.ReadAt(buffer, 1024)
	require.NoError(t, err, "skipped")
	_, err = f.ReadAt(buffer, 1024)
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, err, file.ErrSystem)
	_, err = f.ReadAt(buffer, 1024)
	require.NoError(t, err, "only once")
	require.Equal(t, 1, d.Shown(r))

	d.Heal()
	d.Inject(Rule{Op: Write, Short: 512, Err: unix.ENOSPC, Times: 1})
	n, err := f.WriteAt(fill(2, 1024), 0)
	require.Equal(t, 512, n)
	require.ErrorIs(t, err, file.ErrNoSpace)
	_, err = f.ReadAt(buffer, 0)
	require.NoError(t, err)
	require.Equal(t, append(fill(2, 512), fill(1, 512)...), buffer)

	d.Inject(Rule{Op: Read, Flip: 700, Times: 1})
	_, err = f.ReadAt(buffer, 512)
	require.NoError(t, err)
	require.NotEqual(t, byte(1), buffer[700-512])
	_, err = f.ReadAt(buffer, 512)
	require.NoError(t, err)
	require.Equal(t, fill(1, 1024), buffer)

	d.Inject(Rule{Op: Sync, Err: unix.EIO})
	require.ErrorIs(t, f.Sync(), unix.EIO)
	d.Inject(Rule{Op: Rename, Err: unix.EROFS})
	require.ErrorIs(t, d.Rename("segment-1", "b"), file.ErrReadOnly)
	_, err = f.ReadAt(buffer, 4000)
	require.ErrorIs(t, err, io.EOF)

	g, err := d.Open("segment-1", file.Direct)
	require.NoError(t, err)
	_, err = g.WriteAt(fill(3, 100), 0)
	require.ErrorIs(t, err, unix.EINVAL)
	d.NoDirect()
	_, err = d.Open("segment-1", file.Direct)
	require.ErrorIs(t, err, file.ErrUnsupported)
	d.Vanish()
	_, err = f.ReadAt(buffer, 0)
	require.ErrorIs(t, err, errGone)
}
