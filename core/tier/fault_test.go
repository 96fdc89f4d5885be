package tier

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/index"
	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
	"moorage/core/tier/journal"
)

// filled is a directory with objects key 0, key 1 … of sequence numbers 1, 2 …, closed.
func filled(t testing.TB, s *scratch, o Options, n int) *faulty.Dir {
	t.Helper()
	withSnapshot := o.SnapshotBytes == 1
	if withSnapshot {
		o.SnapshotBytes = 0
	}
	fs := faulty.New()
	d := openDisk(t, fs, o)
	for i := range n {
		_, err := s.put(d, fmt.Sprint("key ", i), uint64(i+1), 40_000+i)
		require.NoError(t, err)
	}
	if withSnapshot {
		require.NoError(t, d.snapshot())
	}
	require.NoError(t, d.Close())
	return fs
}

func TestFaultsOfReads(t *testing.T) {
	s := newScratch(t, 3<<20)
	for _, rule := range []faulty.Rule{{Err: unix.EIO}, {Err: unix.EIO, Short: 512}, {Err: unix.EIO, Skip: 1}} {
		fs := faulty.New()
		d := openDisk(t, fs, Options{Engine: blockio.Options{ChunkBytes: 64 << 10}})
		_, err := s.put(d, "a", 1, 2<<20)
		require.NoError(t, err)
		rule.Op, rule.Name = faulty.Read, "segment-*"
		fs.Inject(rule)
		_, found, err := s.get(d, "a")
		require.True(t, found)
		require.ErrorIs(t, err, unix.EIO)
		require.ErrorIs(t, err, file.ErrSystem)
		require.EqualValues(t, 1, d.Stats().ReadErrors)
		fs.Heal()
		_, found, err = s.get(d, "a")
		require.NoError(t, err, "an error of the device does not take the object away")
		require.True(t, found)
		fs.Inject(faulty.Rule{Op: faulty.Read, Name: "segment-*", Short: 4096, Times: 3})
		_, _, err = s.get(d, "a")
		if err != nil { // a layer that moves less is asked again, or says why not
			require.False(t, errors.Is(err, ErrDamaged))
		}
		fs.Heal()
		require.NoError(t, d.Close())
	}
}

// Flipped bits: an error that says what is damaged, the object is gone, and nothing else.
func TestFlippedBitsOfPayload(t *testing.T) {
	s := newScratch(t, 3<<20)
	for _, size := range []int{100, 50_000, ChunkBytes + 5, 2<<20 + 100} {
		fs := faulty.New()
		d := openDisk(t, fs, Options{})
		_, err := s.put(d, "a", 1, size)
		require.NoError(t, err)
		_, err = s.put(d, "b", 2, size)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		fs.Flip("segment-00000000", 8*(journal.HeaderBytes+int64(size)-1))
		_, found, err := s.get(d, "a")
		require.True(t, found)
		var damaged *DamagedError
		require.ErrorAs(t, err, &damaged)
		require.ErrorIs(t, err, ErrDamaged)
		require.True(t, damaged.Promised)
		require.Equal(t, "a", string(damaged.Key))
		require.Equal(t, uint64((size-1)/ChunkBytes*ChunkBytes), damaged.Offset)
		require.False(t, d.Has([]byte("a")))
		_, _, err = s.get(d, "b")
		require.NoError(t, err)
		require.EqualValues(t, 1, d.Stats().Damaged)
		require.NoError(t, d.Close())
		d = openDisk(t, fs, Options{})
		require.Equal(t, 1, d.Len(), "it stays away")
		require.NoError(t, d.Close())
	}
}

// Each chunk of a large object is verified, whoever comes to it.
func TestFlippedBitsAnywhere(t *testing.T) {
	for _, size := range []int{5 << 20, 12<<20 + 100} {
		flipAnywhere(t, size)
	}
}

func flipAnywhere(t *testing.T, size int) {
	fs, s := faulty.New(), newScratch(t, size)
	d := openDisk(t, fs, Options{})
	for chunk := range chunksOf(uint64(size)) {
		_, err := s.put(d, "a", chunk+1, size)
		require.NoError(t, err)
		_, found, err := s.get(d, "a")
		require.True(t, found)
		require.NoError(t, err)
		e, ok := d.Lookup([]byte("a"))
		require.True(t, ok)
		d.spans(e.body.runs(), chunk*ChunkBytes, chunk*ChunkBytes+1, func(s *segment, off int64, _, _ uint64) {
			fs.Flip(segmentName(s.number), 8*(off+9))
		})
		e.Release()
		_, _, err = s.get(d, "a")
		var damaged *DamagedError
		require.ErrorAs(t, err, &damaged, "chunk %d", chunk)
		require.Equal(t, chunk*ChunkBytes, damaged.Offset)
	}
	require.NoError(t, d.Close())
}

// A part of an object is verified with all of its chunk.
func TestFlippedBitsNextToAPart(t *testing.T) {
	fs, src := faulty.New(), fill(memory(t, 1<<20, 0), 1)
	d := openDisk(t, fs, Options{})
	e := writeBytes(t, d, "a", 1, src)
	fs.Flip("segment-00000000", 8*(journal.HeaderBytes+ChunkBytes+9))
	dst := memory(t, 100_000, 0)
	_, err := d.Read(background, e, at(dst), 2*ChunkBytes, 100_000)
	require.NoError(t, err, "in another chunk")
	_, err = d.Read(background, e, at(dst), ChunkBytes+20_000, 100_000)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = d.Read(background, e, at(dst), 2*ChunkBytes, 100)
	require.ErrorIs(t, err, ErrDamaged, "the object is gone for those that hold it, too")
	e.Release()
	require.NoError(t, d.Close())
}

func TestVerifySampledAndOff(t *testing.T) {
	for _, verify := range []Verify{Sampled, Off} {
		d := openDisk(t, faulty.New(), Options{Verify: verify})
		s := newScratch(t, 100_000)
		_, err := s.put(d, "a", 1, 100_000)
		require.NoError(t, err)
		for range 4 * SampleEvery {
			_, _, err := s.get(d, "a")
			require.NoError(t, err)
		}
		require.EqualValues(t, map[Verify]int{Sampled: 4, Off: 0}[verify], d.Stats().Verified)
		require.NoError(t, d.Close())
	}
}

func TestFaultsOfWrites(t *testing.T) {
	s := newScratch(t, 2<<20)
	for _, mode := range []Durability{None, Batch, Each} {
		fs := faulty.New()
		d := openDisk(t, fs, Options{Durability: mode})
		_, err := s.put(d, "a", 1, 100_000)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		for _, rule := range []faulty.Rule{
			{Op: faulty.Write, Name: "segment-*", Err: unix.EIO}, {Op: faulty.Write, Name: "segment-*", Err: unix.ENOSPC, Short: 4096},
			{Op: faulty.Write, Name: "segment-*", Err: unix.EROFS},
		} {
			fs.Inject(rule)
			_, err = s.put(d, "a", 2, 100_000)
			require.ErrorIs(t, err, rule.Err)
			fs.Heal()
			seq, _, err := s.get(d, "a")
			require.NoError(t, err)
			require.EqualValues(t, 1, seq, "the old one is still there")
			addsUp(t, d)
			require.Zero(t, d.Stats().Reserved)
		}
		// The journal is full: no commit, nothing changed; later it goes on.
		fs.Inject(faulty.Rule{Op: faulty.Write, Name: "journal-*", Err: unix.ENOSPC, Short: 20})
		stored, err := s.put(d, "b", 3, 100_000)
		if mode == Batch {
			require.NoError(t, err)
			require.ErrorIs(t, d.Sync(), file.ErrNoSpace)
			_, err = s.put(d, "c", 4, 100)
		}
		require.ErrorIs(t, err, file.ErrNoSpace)
		require.False(t, stored && mode != Batch)
		require.Equal(t, mode == Batch, d.Has([]byte("b")))
		fs.Heal()
		_, err = s.put(d, "d", 5, 100)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		d = openDisk(t, fs, Options{Durability: mode})
		require.True(t, d.Recovered().Clean)
		require.Equal(t, mode == Batch, d.Has([]byte("b")))
		for _, key := range []string{"a", "d"} {
			_, found, err := s.get(d, key)
			require.NoError(t, err)
			require.True(t, found)
		}
		require.NoError(t, d.Close())
	}
}

// A sync that fails: nothing is promised any more, all that is there can be read, and an Open starts anew.
func TestFaultsOfSyncs(t *testing.T) {
	s := newScratch(t, 2<<20)
	for _, name := range []string{"segment-*", "journal-*"} {
		fs := faulty.New()
		d := openDisk(t, fs, Options{Durability: Each})
		_, err := s.put(d, "a", 1, 100_000)
		require.NoError(t, err)
		fs.Inject(faulty.Rule{Op: faulty.Sync, Name: name, Err: unix.EIO, Times: 1})
		_, err = s.put(d, "a", 2, 100_000)
		require.ErrorIs(t, err, journal.ErrBroken)
		require.ErrorIs(t, err, unix.EIO)
		_, err = s.put(d, "c", 3, 100_000)
		require.ErrorIs(t, err, journal.ErrBroken)
		seq, found, err := s.get(d, "a")
		require.NoError(t, err)
		require.True(t, found)
		require.EqualValues(t, 1, seq)
		addsUp(t, d)
		left := fs.Kill()
		require.ErrorIs(t, d.Close(), journal.ErrBroken)
		d = openDisk(t, left, Options{Durability: Each})
		seq, found, err = s.get(d, "a")
		require.NoError(t, err)
		require.True(t, found && seq <= 2)
		require.NoError(t, d.Close())
	}
}

// No space for a segment: an error that says so, not that the capacity is used up; and with objects to evict, these go.
func TestNoSpaceForSegments(t *testing.T) {
	s := newScratch(t, 1<<20)
	fs := faulty.New()
	fs.Inject(faulty.Rule{Op: faulty.Allocate, Err: unix.ENOSPC, Skip: 1})
	d := openDisk(t, fs, Options{SegmentBytes: 1 << 20, FullEvicts: true})
	for seq := range uint64(10) {
		_, err := s.put(d, fmt.Sprint(seq), seq+1, 300_000)
		require.NoError(t, err)
	}
	require.NotZero(t, d.Stats().Evicted)
	require.Equal(t, 1, d.Stats().Segments)
	names, err := fs.Names()
	require.NoError(t, err)
	require.NotContains(t, names, "segment-00000001")
	require.NoError(t, d.Close())

	fs.Heal()
	fs.Inject(faulty.Rule{Op: faulty.Allocate, Err: unix.ENOSPC})
	d = openDisk(t, fs, Options{SegmentBytes: 1 << 20})
	_, err = s.put(d, "more", 100, 1<<20)
	require.ErrorIs(t, err, file.ErrNoSpace)
	require.NoError(t, d.Close())
}

// A file system that cannot allocate gets zeros.
func TestNoAllocate(t *testing.T) {
	s, fs := newScratch(t, 1<<20), faulty.New()
	fs.Inject(faulty.Rule{Op: faulty.Allocate, Err: unix.EOPNOTSUPP})
	var said []string
	d := openDisk(t, fs, Options{SegmentBytes: 1 << 20, Log: func(text string) { said = append(said, text) }})
	_, err := s.put(d, "a", 1, 1<<20)
	require.NoError(t, err)
	_, _, err = s.get(d, "a")
	require.NoError(t, err)
	require.Len(t, fs.Bytes("segment-00000000"), journal.HeaderBytes+1<<20)
	require.Len(t, said, 1)
	require.NoError(t, d.Close())
}

func TestNoDirect(t *testing.T) {
	s, fs := newScratch(t, 1<<20), faulty.New()
	fs.NoDirect()
	d := openDisk(t, fs, Options{})
	_, err := s.put(d, "a", 1, 1<<20)
	require.NoError(t, err)
	require.False(t, d.Stats().Direct)
	require.NoError(t, d.Close())
}

func header(t *testing.T, fs *faulty.Dir, name string, change func(page []byte)) {
	b := fs.Bytes(name)
	change(b[:2048])
	change(b[2048:4096])
	fs.SetBytes(name, b)
}

// Files of others, of other tiers and of later versions: an error that names the file. Nothing is changed.
func TestForeignFiles(t *testing.T) {
	s := newScratch(t, 100_000)
	for _, file := range []string{"journal-00000001", "snapshot-00000002", "segment-00000000"} {
		for name, change := range map[string]func([]byte){
			"not a file of this tier": func(b []byte) { copy(b, "something else entirely") },
			"newer":                   func(b []byte) { b[12] = 2 },
		} {
			fs := filled(t, s, Options{SnapshotBytes: 1}, 4)
			if strings.HasPrefix(file, "journal") {
				fs = filled(t, s, Options{}, 4)
			}
			require.NotNil(t, fs.Bytes(file), "%s", file)
			header(t, fs, file, change)
			before := fs.Kill()
			_, err := Open(Options{FS: fs, Capacity: 16 << 20})
			require.ErrorIs(t, err, ErrFormat)
			require.ErrorContains(t, err, file)
			require.ErrorContains(t, err, name)
			names, _ := before.Names()
			after, _ := fs.Names()
			require.Equal(t, names, after)
			for _, n := range names {
				require.True(t, bytes.Equal(before.Bytes(n), fs.Bytes(n)), n)
			}
		}
	}
	one, other := filled(t, s, Options{}, 2), filled(t, s, Options{}, 2)
	one.SetBytes("segment-00000000", other.Bytes("segment-00000000"))
	_, err := Open(Options{FS: one, Capacity: 16 << 20})
	require.ErrorIs(t, err, ErrFormat)
	other.SetBytes("journal-00000001", nil)
	_, err = Open(Options{FS: other, Capacity: 16 << 20})
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, "no journal")
}

// Flipped bits in each file that describes objects: reported, never wrong bytes, and all that is not damaged is there.
func TestFlippedBitsOfFiles(t *testing.T) {
	s := newScratch(t, 100_000)
	for _, file := range []string{"journal-00000001", "snapshot-00000002", "segment-00000000"} {
		o := Options{}
		if strings.HasPrefix(file, "snapshot") {
			o.SnapshotBytes = 1
		}
		whole := filled(t, s, o, 12)
		size := int64(len(whole.Bytes(file)))
		if strings.HasPrefix(file, "segment") {
			size = journal.HeaderBytes
		}
		reported := 0
		for bit := int64(0); bit < 8*size; bit += 97 * slower {
			if in := bit / 8 % 2048; bit < 8*journal.HeaderBytes && in >= 92 && in%40 != 0 {
				continue // nothing is there
			}
			fs := whole.Kill()
			fs.Flip(file, bit)
			d, err := Open(Options{FS: fs, Capacity: 16 << 20, Engine: blockio.Options{MaxPath: blockio.Layer}})
			require.NoError(t, err)
			lost := 0
			for i := range 12 {
				seq, found, err := s.get(d, fmt.Sprint("key ", i))
				require.NoError(t, err)
				if !found {
					lost++
				} else {
					require.EqualValues(t, i+1, seq)
				}
			}
			if len(d.Recovered().Lost) > 0 {
				reported++
			} else {
				require.Zero(t, lost, "bit %d of %s: lost without a word", bit, file)
			}
			require.LessOrEqual(t, lost, 1, "bit %d of %s", bit, file)
			addsUp(t, d)
			require.NoError(t, d.Close())
		}
		require.NotZero(t, reported, file)
	}
}

// Objects that were replaced and removed: damage in the journal never brings an old state back.
func TestDamageBringsNothingBack(t *testing.T) {
	s := newScratch(t, 20_000)
	fs := faulty.New()
	d := openDisk(t, fs, Options{Durability: Each})
	want := map[string]uint64{}
	for seq := uint64(1); seq < 60; seq++ {
		key := fmt.Sprint("k", seq%7)
		if seq%5 == 0 {
			d.Remove([]byte(key), seq)
			want[key] = 0
			continue
		}
		_, err := s.put(d, key, seq, 5000)
		require.NoError(t, err)
		want[key] = seq
	}
	require.NoError(t, d.Close())
	whole := fs.Bytes("journal-00000001")
	for _, n := range []int{1, 100, 600, 3000} {
		for from := journal.HeaderBytes; from < len(whole); from += 37 * slower {
			b := bytes.Clone(whole)
			for i := from; i < min(len(b), from+n); i++ {
				b[i] ^= 0x55
			}
			if from+n >= len(b)-48 { // the last record is the one that knows the others
				continue
			}
			left := fs.Kill()
			left.SetBytes("journal-00000001", b)
			d := openDisk(t, left, Options{Engine: blockio.Options{MaxPath: blockio.Layer}})
			for key, seq := range want {
				got, found, err := s.get(d, key)
				require.NoError(t, err)
				require.True(t, !found || got == seq, "%d bytes at %d: %q is %d, not %d", n, from, key, got, seq)
			}
			require.NoError(t, d.Close())
		}
	}
}

func TestSegmentsThatAreGoneOrShort(t *testing.T) {
	s := newScratch(t, 100_000)
	fs := filled(t, s, Options{}, 10)
	b := fs.Bytes("segment-00000000")
	fs.SetBytes("segment-00000000", b[:journal.HeaderBytes+5*11*blocks.Size/2])
	d := openDisk(t, fs, Options{})
	require.NotEmpty(t, d.Recovered().Lost)
	there := 0
	for i := range 10 {
		_, found, err := s.get(d, fmt.Sprint("key ", i))
		require.NoError(t, err)
		if found {
			there++
		}
	}
	require.Positive(t, there)
	require.Less(t, there, 10)
	require.Equal(t, there, d.Len())
	_, err := s.put(d, "new", 100, 90_000)
	require.NoError(t, err)
	addsUp(t, d)
	require.NoError(t, d.Close())

	fs.SetBytes("segment-00000000", nil)
	d = openDisk(t, fs, Options{})
	require.Zero(t, d.Len())
	require.Len(t, d.Recovered().Lost, 1)
	require.Len(t, d.Recovered().Lost[0].Keys, there+1)
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{})
	require.Empty(t, d.Recovered().Lost, "it was reported")
	require.NoError(t, d.Close())
}

// A header of which both copies are gone is made again; what lies behind it is verified before anybody gets it.
func TestSegmentWithoutAHeader(t *testing.T) {
	s := newScratch(t, 100_000)
	fs := filled(t, s, Options{}, 10)
	header(t, fs, "segment-00000000", func(b []byte) { clear(b[:92]) })
	fs.Flip("segment-00000000", 8*journal.HeaderBytes+7)
	d := openDisk(t, fs, Options{Verify: Off})
	require.Len(t, d.Recovered().Lost, 1)
	require.Equal(t, 10, d.Recovered().Unproved)
	_, _, err := s.get(d, "key 0")
	require.ErrorIs(t, err, ErrDamaged)
	_, _, err = s.get(d, "key 1")
	require.NoError(t, err)
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{})
	require.Empty(t, d.Recovered().Lost)
	require.NoError(t, d.Close())
}

func TestDirectoryThatIsRemoved(t *testing.T) {
	s := newScratch(t, 1<<20)
	dir := filepath.Join(t.TempDir(), "kv")
	d, err := Open(Options{Dir: dir, Capacity: 4 << 20, SegmentBytes: 1 << 20, Durability: Each})
	require.NoError(t, err)
	_, err = s.put(d, "a", 1, 500_000)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	_, _, err = s.get(d, "a")
	require.NoError(t, err, "the files are still open")
	_, err = s.put(d, "b", 2, 1<<20)
	require.Error(t, err, "there is no place for a new segment")
	require.NoError(t, d.Close())
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(Options{Dir: dir, Capacity: 4 << 20})
	require.NoError(t, err)
	_, err = Open(Options{Dir: dir, Capacity: 4 << 20})
	require.ErrorIs(t, err, file.ErrLocked)
	require.NoError(t, d.Close())
	d, err = Open(Options{Dir: dir, Capacity: 4 << 20})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

// An Open that dies at any call can be repeated.
func TestOpenThatFails(t *testing.T) {
	s := newScratch(t, 100_000)
	whole := filled(t, s, Options{}, 5).Kill()
	for calls := 1; ; calls++ {
		fs := whole.Kill()
		fs.DieAfter(calls)
		d, err := Open(Options{FS: fs, Capacity: 16 << 20, Engine: blockio.Options{MaxPath: blockio.Layer}})
		if err == nil {
			require.Greater(t, calls, 3)
			fs.Vanish()
			require.Error(t, d.Close())
			break
		}
		for seed := range uint64(5) {
			d := openDisk(t, fs.Crash(seed), Options{})
			require.Equal(t, 5, d.Len())
			require.Empty(t, d.Recovered().Lost)
			require.NoError(t, d.Close())
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(makeBody(1, 5000, []blocks.Run{{Segment: 0, Start: 1, Count: 2}}, []uint32{7}, index.Content{Key: []byte("k"), Meta: []byte("m")})))
	f.Fuzz(func(t *testing.T, b []byte) {
		if body(b).check() == nil {
			c := body(b).content()
			again := makeBody(body(b).seq(), body(b).size(), body(b).runs(), crcs(b), c)
			if c.Tensor || (len(c.Shape) == 0 && c.Code|c.Bits == 0 && c.Lanes == 0) {
				require.Equal(t, len(b), len(again))
			}
		}
		_, _, _ = readRemoval(b)
	})
}

func crcs(b body) (all []uint32) {
	for i := range chunksOf(b.size()) {
		all = append(all, b.crc(i))
	}
	return all
}
