package tier

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tier/blockio"
	"moorage/core/tier/file/faulty"
)

func TestSequenceNumbers(t *testing.T) {
	for _, mode := range []Durability{None, Batch, Each} {
		s := newScratch(t, 100_000)
		d := openDisk(t, faulty.New(), Options{Durability: mode})
		put := func(seq uint64) bool {
			stored, err := s.put(d, "a", seq, 10_000)
			require.NoError(t, err)
			return stored
		}
		require.True(t, put(5))
		require.False(t, put(4), "a newer one is there")
		require.True(t, put(5), "it is there")
		require.True(t, put(6))
		require.True(t, d.HasSeq([]byte("a"), 6))
		require.False(t, d.HasSeq([]byte("a"), 5))
		require.False(t, d.Remove([]byte("a"), 5), "only up to it")
		require.True(t, d.Remove([]byte("a"), ^uint64(0)))
		require.False(t, d.Remove([]byte("a"), 6))
		require.True(t, put(7), "the removal was of what there was")
		require.EqualValues(t, 7, d.MaxSeq())

		// A removal ends the drafts that it covers, and no others.
		for upTo, want := range map[uint64]bool{9: true, 10: false, 11: false} {
			w, err := d.Reserve([]byte("b"), 10, 5000)
			require.NoError(t, err)
			_, err = w.Write(background, at(s.in))
			require.NoError(t, err)
			require.False(t, d.Remove([]byte("b"), upTo))
			stored, err := w.Commit(index.Content{})
			require.NoError(t, err)
			require.Equal(t, want, stored, upTo)
			require.Equal(t, want, d.Has([]byte("b")))
			d.Remove([]byte("b"), 10)
		}
		require.NoError(t, d.Settle())
		addsUp(t, d)
		require.NoError(t, d.Close())
	}
}

func TestResident(t *testing.T) {
	s, fs := newScratch(t, 100_000), faulty.New()
	d := openDisk(t, fs, Options{})
	_, err := s.put(d, "a", 1, 100)
	require.NoError(t, err)
	require.False(t, d.SetResident([]byte("a"), 2, true))
	require.False(t, d.SetResident([]byte("b"), 1, true))
	for range 2 {
		require.True(t, d.SetResident([]byte("a"), 1, true))
	}
	n, resident := d.Counts()
	require.EqualValues(t, []uint64{1, 1}, []uint64{n, resident})
	d.List(nil, d.hasher.hash([]byte("a")), func(_ []byte, resident bool) bool { require.True(t, resident); return true })
	_, err = s.put(d, "a", 3, 100)
	require.NoError(t, err)
	_, resident = d.Counts()
	require.Zero(t, resident, "the new one is not")
	require.True(t, d.SetResident([]byte("a"), 3, true))
	require.True(t, d.SetResident([]byte("a"), 3, false))
	require.True(t, d.SetResident([]byte("a"), 3, true))
	d.Remove([]byte("a"), 3)
	n, resident = d.Counts()
	require.Zero(t, n+resident)
	e, ok := d.Lookup([]byte("a"))
	require.False(t, ok)
	require.Nil(t, e)
	require.NoError(t, d.Close())
}

func TestTouches(t *testing.T) {
	s := newScratch(t, 1000)
	d := openDisk(t, faulty.New(), Options{})
	_, err := s.put(d, "a", 1, 100)
	require.NoError(t, err)
	for i := range uint32(6) {
		e, _ := d.Lookup([]byte("a"))
		require.Equal(t, i+1, e.Touch())
		e.Release()
		require.True(t, d.Has([]byte("a")), "not an access")
	}
	require.NoError(t, d.Close())
}

// What is held keeps its blocks, through remove, replace and a full disk, and gives them back with its release.
func TestHolds(t *testing.T) {
	s, fs := newScratch(t, 1<<20), faulty.New()
	d := openDisk(t, fs, Options{Capacity: 4 << 20, FullEvicts: true, Durability: None})
	_, err := s.put(d, "held", 1, 1<<20)
	require.NoError(t, err)
	e, ok := d.Lookup([]byte("held"))
	require.True(t, ok)
	check := func() {
		t.Helper()
		_, err := d.Read(background, e, at(s.out), 0, 1<<20)
		require.NoError(t, err)
		require.Equal(t, string(fill(s.in, 1)), string(s.out))
	}
	for seq := uint64(2); seq < 40; seq++ {
		_, err = s.put(d, fmt.Sprint(seq), seq, 1<<20)
		require.NoError(t, err)
	}
	require.True(t, d.Has([]byte("held")), "what is held is not evicted")
	check()
	_, err = s.put(d, "held", 50, 100)
	require.NoError(t, err)
	for seq := uint64(60); seq < 80; seq++ {
		_, err = s.put(d, fmt.Sprint(seq), seq, 1<<20)
		require.NoError(t, err)
	}
	check()
	_, err = d.Reserve([]byte("all"), 100, 4<<20-4096)
	require.ErrorIs(t, err, ErrFull)
	require.NotZero(t, d.Stats().Pending)
	e.Release()
	_, err = s.put(d, "held", 101, 100)
	require.NoError(t, err)
	closed := make(chan error)
	e, ok = d.Lookup([]byte("held"))
	require.True(t, ok)
	go func() { closed <- d.Close() }()
	select {
	case <-closed:
		t.Fatal("Close does not wait for the hold")
	case <-time.After(20 * time.Millisecond):
	}
	_, ok = d.Lookup([]byte("held"))
	require.False(t, ok)
	_, err = d.Read(background, e, at(s.out), 0, 100)
	require.NoError(t, err)
	e.Release()
	require.NoError(t, <-closed)
}

func TestDrop(t *testing.T) {
	d := openDisk(t, faulty.New(), Options{Capacity: 4 << 20})
	w, err := d.Reserve([]byte("a"), 1, 4<<20)
	require.NoError(t, err)
	s := d.Stats()
	require.EqualValues(t, 4<<20, s.Reserved)
	w.Drop()
	w.Drop()
	require.EqualValues(t, 4<<20, d.Stats().Free)
	require.NoError(t, d.Close())
}

// The blocks of a durable object that was removed are not used before the removal is durable, too.
func TestBlocksWaitForTheRemoval(t *testing.T) {
	s, fs := newScratch(t, 1<<20), faulty.New()
	d := openDisk(t, fs, Options{Capacity: 1 << 20, Durability: None})
	_, err := s.put(d, "a", 1, 1<<20)
	require.NoError(t, err)
	require.NoError(t, d.Sync())
	require.True(t, d.Remove([]byte("a"), 1))
	require.NoError(t, d.Settle())
	require.Zero(t, d.space.sweep(), "written, but not durable")
	synced := d.log.Synced()
	_, err = s.put(d, "b", 2, 1<<20)
	require.NoError(t, err)
	require.Greater(t, d.log.Synced(), synced)

	// What was never durable only waits for its removal to be written.
	require.True(t, d.Remove([]byte("b"), 2))
	require.NoError(t, d.Settle())
	synced = d.log.Synced()
	_, err = s.put(d, "c", 3, 1<<20)
	require.NoError(t, err)
	require.Equal(t, synced, d.log.Synced())
	require.NoError(t, d.Close())
}

func TestList(t *testing.T) {
	s := newScratch(t, 1000)
	d := openDisk(t, faulty.New(), Options{Durability: None})
	const n = 3000
	for i := range n {
		_, err := s.put(d, fmt.Sprintf("stay/%d", i), uint64(i+1), 0)
		require.NoError(t, err)
	}
	seen := map[string]int{}
	other := 0
	for cursor, page := uint64(0), 0; cursor != ListEnd; page++ {
		left, looked := 1+page%100, 0
		cursor = d.List([]byte("stay/"), cursor, func(key []byte, _ bool) bool {
			looked++
			if left == 0 {
				return false
			}
			left--
			seen[string(key)]++
			return true
		})
		require.LessOrEqual(t, looked, listPiece)
		for range 3 { // the tables grow meanwhile
			_, err := s.put(d, fmt.Sprintf("come/%d", other), uint64(n+other+1), 0)
			require.NoError(t, err)
			other++
		}
	}
	require.Len(t, seen, n)
	for key, times := range seen {
		require.Equal(t, 1, times, key)
	}
	require.Len(t, d.Keys([]byte("come/")), other)
	require.Len(t, d.Keys(nil), n+other)
	require.NoError(t, d.Close())
}

// 20 times the capacity, with evictions, in sizes that leave crumbs: nine tenths of the disk are used at any time from the first
// full one on.
func TestWear(t *testing.T) {
	s := newScratch(t, 600_000)
	const capacity = 24 << 20
	for _, evicts := range []bool{true, false} {
		d := openDisk(t, faulty.New(), Options{
			Capacity: capacity, FullEvicts: evicts, Durability: None, SnapshotBytes: 64 << 10, Engine: blockio.Options{MaxPath: blockio.Layer},
		})
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		written, full, least := 0, false, uint64(capacity)
		var live []string
		for seq := uint64(1); written < 20*capacity/slower; seq++ {
			n := []int{r.IntN(8192), r.IntN(60_000), r.IntN(600_000)}[r.IntN(3)]
			key := fmt.Sprint(seq)
			for {
				_, err := s.put(d, key, seq, n)
				if err == nil {
					break
				}
				require.ErrorIs(t, err, ErrFull)
				require.False(t, evicts)
				full = true
				least = min(least, d.UsedBytes())
				i := r.IntN(len(live))
				require.True(t, d.Remove([]byte(live[i]), seq))
				live = append(live[:i], live[i+1:]...)
			}
			written += n
			live = append(live, key)
			if d.Stats().Evicted > 0 {
				full = true
				least = min(least, d.UsedBytes())
			}
			if r.IntN(5) == 0 {
				i := r.IntN(len(live))
				_, found, err := s.get(d, live[i])
				require.NoError(t, err)
				require.True(t, found || evicts)
			}
		}
		require.True(t, full)
		require.Greater(t, least, uint64(capacity*9/10))
		addsUp(t, d)
		require.NoError(t, d.Close())
		require.LessOrEqual(t, d.Stats().JournalBytes, uint64(4<<20))
	}
}

// hammer has readers, writers, removers, listers and syncs on few keys.
func hammer(t *testing.T, d *Disk, for_ time.Duration) {
	var seq atomic.Uint64
	seq.Store(d.MaxSeq())
	var wg sync.WaitGroup
	end := time.Now().Add(for_)
	failed := make(chan error, 64)
	worker := func(do func(r *rand.Rand, s *scratch) error) {
		s := newScratch(t, 1<<20)
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for time.Now().Before(end) {
				if err := do(r, s); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	key := func(r *rand.Rand) string { return fmt.Sprint("k", r.IntN(12)) }
	for range 3 {
		worker(func(r *rand.Rand, s *scratch) error {
			_, _, err := s.get(d, key(r))
			return err
		})
		worker(func(r *rand.Rand, s *scratch) error {
			_, err := s.put(d, key(r), seq.Add(1), r.IntN(1<<r.IntN(20)))
			return err
		})
	}
	worker(func(r *rand.Rand, s *scratch) error {
		d.Remove([]byte(key(r)), seq.Load())
		d.SetResident([]byte(key(r)), seq.Load(), true)
		if r.IntN(10) == 0 {
			return d.Settle()
		}
		runtime.Gosched()
		return nil
	})
	worker(func(r *rand.Rand, s *scratch) error {
		d.Keys(nil)
		d.Stats()
		if r.IntN(20) == 0 {
			return d.Sync()
		}
		return nil
	})
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

func hammerAll(t *testing.T, for_ time.Duration) {
	for _, mode := range []Durability{None, Batch, Each} {
		for _, verify := range []Verify{Always, Off} {
			fs := faulty.New()
			o := Options{
				Durability: mode, Verify: verify, Capacity: 6 << 20, SegmentBytes: 2 << 20, FullEvicts: true, SnapshotBytes: 20 << 10,
				BatchEvery: time.Millisecond,
			}
			d := openDisk(t, fs, o)
			hammer(t, d, for_)
			require.NoError(t, d.Sync())
			addsUp(t, d)
			keys := d.Keys(nil)
			require.NoError(t, d.Close())
			d = openDisk(t, fs, o)
			require.ElementsMatch(t, keys, d.Keys(nil))
			require.Empty(t, d.Recovered().Lost)
			addsUp(t, d)
			require.NoError(t, d.Close())
		}
	}
}

func TestHammer(t *testing.T) { hammerAll(t, 150*time.Millisecond) }

func TestSoakHammer(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("MOORAGE_HAMMER_SECONDS"))
	if err != nil {
		t.Skip("probed MOORAGE_HAMMER_SECONDS: not set")
	}
	hammerAll(t, time.Duration(seconds)*time.Second/6)
}

// An object whose record stands in the old journal, and that has no name yet, is waited for: it would be in no file.
func TestSnapshotAwaitsDrafts(t *testing.T) {
	d := openDisk(t, faulty.New(), Options{})
	w, err := d.Reserve([]byte("a"), 1, 0)
	require.NoError(t, err)
	s := d.shard(w.hash)
	record := func(lsn uint64) {
		s.mu.Lock()
		w.recorded = lsn
		s.mu.Unlock()
	}
	record(d.log.Append(recordClean, 1, nil))
	done := make(chan error)
	go func() { done <- d.snapshot() }()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	record(0)
	require.NoError(t, <-done)
	w.Drop()
	require.NoError(t, d.Close())
}

func TestSnapshotUnderLoad(t *testing.T) {
	fs, s := faulty.New(), newScratch(t, 10_000)
	o := Options{Durability: Each, Capacity: 8 << 20, SegmentBytes: 4 << 20, Engine: blockio.Options{MaxPath: blockio.Layer}}
	d := openDisk(t, fs, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
				if d.snapshot() != nil {
					return
				}
			}
		}
	}()
	last := map[string]uint64{}
	for seq := uint64(1); seq < 400; seq++ {
		key := fmt.Sprint("k", seq%50)
		if seq%11 == 0 {
			d.Remove([]byte(key), seq)
			require.NoError(t, d.Settle())
			last[key] = 0
			continue
		}
		_, err := s.put(d, key, seq, 4000)
		require.NoError(t, err)
		last[key] = seq
		if seq%20 == 0 {
			left := fs.Crash(seq)
			again := openDisk(t, left, o)
			for key, want := range last {
				got, _, err := s.get(again, key)
				require.NoError(t, err)
				require.Equal(t, want, got, "%q at %d", key, seq)
			}
			require.NoError(t, again.Close())
		}
	}
	close(stop)
	wg.Wait()
	require.NoError(t, d.Close())
}
