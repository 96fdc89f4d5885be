package tier

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file/faulty"
	"moorage/core/tier/journal"
)

// Two records that name the same block, as a loss of power can leave them when nothing is synced: the newer one is right.
func TestTwoOwnersOfABlock(t *testing.T) {
	s, fs := newScratch(t, 100_000), faulty.New()
	d := openDisk(t, fs, Options{})
	_, err := s.put(d, "a", 1, 50_000)
	require.NoError(t, err)
	e, _ := d.Lookup([]byte("a"))
	crc := []uint32{e.body.crc(0)}
	twin := makeBody(2, 50_000, e.body.runs(), crc, index.Content{Key: []byte("b"), Meta: []byte("2")})
	e.Release()
	d.log.Append(recordPut, d.hasher.hash([]byte("b")), twin)
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{})
	require.False(t, d.Has([]byte("a")))
	require.True(t, d.Has([]byte("b")))
	require.Len(t, d.Recovered().Lost, 1, "both were durable: that is damage")
	require.Equal(t, []string{"a"}, d.Recovered().Lost[0].Keys)
	addsUp(t, d)
	require.NoError(t, d.Close())
}

// Commits alone make the journal long, too.
func TestLongJournalsBecomeSnapshots(t *testing.T) {
	for _, mode := range []Durability{None, Batch, Each} {
		s, fs := newScratch(t, 1000), faulty.New()
		d := openDisk(t, fs, Options{Durability: mode, BatchEvery: time.Millisecond, SnapshotBytes: 8 << 10})
		for i := range 400 {
			_, err := s.put(d, fmt.Sprint(i%9), uint64(i+1), 0)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool {
			stats := d.Stats()
			return stats.Snapshots > 0 && stats.JournalBytes < 64<<10
		}, 10*time.Second, time.Millisecond, "%v", mode)
		require.NoError(t, d.Close())
	}
}

// What an open finds after a kill it makes durable: from then on somebody may rely on it.
func TestFoundIsDurable(t *testing.T) {
	s, fs := newScratch(t, 100_000), faulty.New()
	o := Options{Durability: None, Engine: blockio.Options{MaxPath: blockio.Layer}}
	d := openDisk(t, fs, o)
	for i := range 5 {
		_, err := s.put(d, fmt.Sprint(i), uint64(i+1), 30_000)
		require.NoError(t, err)
	}
	fs, old := fs.Kill(), d
	d = openDisk(t, fs, o)
	require.Equal(t, 5, d.Len())
	for seed := range uint64(40) {
		again := openDisk(t, fs.Crash(seed), o)
		for i := range 5 {
			_, found, err := s.get(again, fmt.Sprint(i))
			require.NoError(t, err)
			require.True(t, found)
		}
		require.Empty(t, again.Recovered().Lost)
		require.NoError(t, again.Close())
	}
	require.NoError(t, d.Close())
	require.NoError(t, old.Close())
}

// Where a name is looked for depends on its hash, and so does the meaning of records that are lost: it is part of the format.
func TestHashIsPartOfTheFormat(t *testing.T) {
	h := makeHasher([16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	for key, want := range map[string]uint64{
		"a":                                 0x1370232f064fa91e,
		"kv/abc":                            0x5d7ecc7674853837,
		"0123456789abcdef":                  0x5c4cf6fbcb96f11e,
		"0123456789abcdef0123456789abcdef!": 0x9520a7003e3b485b,
	} {
		require.Equal(t, want, h.hash([]byte(key)), "%q", key)
	}
	seen := map[uint64]bool{}
	for i := range 100_000 {
		seen[h.hash(fmt.Append(nil, i))>>24] = true
	}
	require.Greater(t, len(seen), 99_950, "spread over its 40 upper bits")
}

// Whatever a record says whose checksums are good, Open does not end in a panic, and what it opens can be used.
func FuzzOpen(f *testing.F) {
	runs := []blocks.Run{{Segment: 0, Start: 1, Count: 2}}
	f.Add(uint8(recordPut), []byte(makeBody(1, 5000, runs, []uint32{7}, index.Content{Key: []byte("k"), Meta: []byte("m")})), uint64(9))
	f.Add(uint8(recordRemove), makeRemoval(8, []byte("k")), uint64(0))
	f.Add(uint8(recordClean), []byte{}, uint64(1))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte, synced uint64) {
		if len(b) > journal.MaxBody {
			return
		}
		fs := faulty.New()
		header := journal.Header{Kind: journal.Journal, Number: 1, Tier: [16]byte{1}, Values: [6]uint64{1}}
		file, err := journal.Create(fs, journalName(1), header)
		require.NoError(t, err)
		r := journal.Record{LSN: 1, Synced: synced, Kind: kind, Hash: 5, Body: b}
		if kind == recordPut && body(b).check() == nil {
			r.Hash = makeHasher(header.Tier).hash(body(b).key())
		}
		_, err = file.WriteAt(journal.AppendRecord(nil, journal.Seed(header.Tier), r), journal.HeaderBytes)
		require.NoError(t, err)
		d, err := Open(Options{FS: fs, Capacity: 16 << 20, Engine: blockio.Options{MaxPath: blockio.Layer}})
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		for _, key := range d.Keys(nil) {
			if e, ok := d.Lookup(key); ok {
				_ = e.Content()
				e.Release()
			}
		}
		addsUp(t, d)
		require.NoError(t, d.Close())
	})
}

// Many objects and lives in good order: snapshots take the place of journals, MaxSeq only grows, nothing is lost.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	fs, s, want := faulty.New(), newScratch(t, 20_000), map[string]uint64{}
	seq := uint64(0)
	for life := range 40 {
		d := openDisk(t, fs, Options{
			Durability: Durability(r.IntN(3)), SnapshotBytes: 4 << 10, Engine: blockio.Options{MaxPath: blockio.Layer},
		})
		require.True(t, d.Recovered().Clean, "life %d", life)
		require.Empty(t, d.Recovered().Lost)
		require.Zero(t, d.Recovered().Unproved)
		require.Equal(t, seq, d.MaxSeq())
		require.Len(t, d.Keys(nil), len(want))
		for range r.IntN(60) {
			key := fmt.Sprint("k", r.IntN(30))
			switch r.IntN(4) {
			case 0, 1:
				seq++
				stored, err := s.put(d, key, seq, r.IntN(20_000))
				require.NoError(t, err)
				require.True(t, stored)
				want[key] = seq
			case 2:
				_, there := want[key]
				require.Equal(t, there, d.Remove([]byte(key), seq))
				delete(want, key)
			case 3:
				got, found, err := s.get(d, key)
				require.NoError(t, err)
				require.Equal(t, want[key] != 0, found)
				require.Equal(t, want[key], got)
			}
		}
		addsUp(t, d)
		require.NoError(t, d.Close())
	}
	names, err := fs.Names()
	require.NoError(t, err)
	require.Less(t, len(names), 2*manyJournals)
}

// On a real file system, each path of block I/O gives the same bytes.
func TestPaths(t *testing.T) {
	s := newScratch(t, 3<<20)
	for path := blockio.UringFixed; path < blockio.Paths; path++ {
		dir := t.TempDir()
		o := Options{Dir: dir, Capacity: 16 << 20, Durability: Each, Engine: blockio.Options{MaxPath: path}}
		d, err := Open(o)
		require.NoError(t, err)
		for i, n := range []int{0, 1, 4096, 40_000, 1 << 20, 3<<20 - 5} {
			_, err := s.put(d, fmt.Sprint(i), uint64(i+1), n)
			require.NoError(t, err)
			_, found, err := s.get(d, fmt.Sprint(i))
			require.NoError(t, err)
			require.True(t, found)
		}
		e, _ := d.Lookup([]byte("4"))
		io, err := d.Read(background, e, at(s.out), 0, e.Bytes())
		require.NoError(t, err)
		require.GreaterOrEqual(t, io.Path, path)
		require.EqualValues(t, 1<<20, io.Bytes)
		require.Positive(t, io.Last-io.First)
		e.Release()
		require.NoError(t, d.Close())
		d, err = Open(o)
		require.NoError(t, err)
		require.Equal(t, 6, d.Len())
		require.NoError(t, d.Close())
	}
}

// A capacity that is smaller than what is there: nothing is lost, nothing more fits.
func TestSmallerCapacity(t *testing.T) {
	s, fs := newScratch(t, 1<<20), faulty.New()
	d := openDisk(t, fs, Options{Capacity: 8 << 20})
	for i := range 6 {
		_, err := s.put(d, fmt.Sprint(i), uint64(i+1), 1<<20)
		require.NoError(t, err)
	}
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{Capacity: 4 << 20})
	require.Equal(t, 6, d.Len())
	_, err := s.put(d, "more", 10, 100)
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{Capacity: 4 << 20, FullEvicts: true})
	_, err = s.put(d, "more", 10, 1<<20)
	require.NoError(t, err)
	require.LessOrEqual(t, d.UsedBytes(), uint64(4<<20))
	require.NoError(t, d.Close())
	d = openDisk(t, fs, Options{Capacity: 12 << 20, SegmentBytes: 2 << 20})
	for i := range 8 {
		_, err := s.put(d, fmt.Sprint("new ", i), uint64(i+20), 1<<20)
		require.NoError(t, err)
	}
	addsUp(t, d)
	require.NoError(t, d.Close())
}

// See BenchmarkLookup for what it costs.
func TestLookupAllocatesNothing(t *testing.T) {
	s := newScratch(t, 1000)
	d := openDisk(t, faulty.New(), Options{})
	_, err := s.put(d, "a", 1, 100)
	require.NoError(t, err)
	key, absent := []byte("a"), []byte("b")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		e, _ := d.Lookup(key)
		e.Release()
		_, _ = d.Lookup(absent)
		d.Has(key)
	}))
	require.NoError(t, d.Close())
}
