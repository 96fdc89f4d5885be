package core

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
)

func keysOf(names ...string) (keys [][]byte) {
	for _, n := range names {
		keys = append(keys, []byte(n))
	}
	return keys
}

func TestSnapshot(t *testing.T) {
	s := open(t, Options{Eviction: EvictS3FIFO})
	none, err := s.Snapshot(nil)
	require.NoError(t, err)
	require.Empty(t, none)
	put(t, s, "a", []byte("A"))
	put(t, s, "b", []byte("B"))
	views, err := s.Snapshot(keysOf("b", "a", "b"))
	require.NoError(t, err)
	put(t, s, "a", []byte("other"))
	require.NoError(t, s.Remove([]byte("b")))
	for i, want := range []string{"B", "A", "B"} {
		require.Equal(t, want, string(views[i].Bytes()))
	}
	require.EqualValues(t, 2, stats(t, s).BorrowedObjects)
	releaseAll(views)
	_, err = s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

func TestSnapshotOfAMissingKeyBorrowsNothing(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", []byte("A"))
	views, err := s.Snapshot(keysOf("a", "none", "other"))
	require.Nil(t, views)
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, `key "none"`)
	require.Zero(t, stats(t, s).BorrowedObjects)
	v, err := s.Take([]byte("a"))
	require.NoError(t, err, "nobody views it")
	v.Release()
	requireEmpty(t, s)
}

func TestSnapshotPrefix(t *testing.T) {
	s := open(t, Options{})
	views, err := s.SnapshotPrefix(nil)
	require.NoError(t, err)
	require.Empty(t, views)
	want := map[string]int{"": 0, "m": 0, "m/": 0, "m/1": 0, "M": 0, "m/100 and more": 0, "n": 0}
	for i := range 3000 {
		key := fmt.Sprintf("m/%d", i)
		if i%3 == 0 {
			key = fmt.Sprintf("n%d", i)
		}
		put(t, s, key, []byte(key))
		for p := range want {
			if len(key) >= len(p) && key[:len(p)] == p {
				want[p]++
			}
		}
	}
	for prefix, n := range want {
		before := stats(t, s)
		views, err := s.SnapshotPrefix([]byte(prefix))
		require.NoError(t, err)
		require.Len(t, views, n)
		seen := map[string]bool{}
		for _, v := range views {
			require.True(t, bytes.HasPrefix(v.Key(), []byte(prefix)))
			require.Equal(t, v.Key(), v.Bytes())
			require.False(t, seen[string(v.Key())])
			seen[string(v.Key())] = true
		}
		st := stats(t, s)
		require.EqualValues(t, n, st.Gets-before.Gets, "each view is a get")
		require.EqualValues(t, n, st.BorrowedObjects)
		releaseAll(views)
	}
	require.Zero(t, stats(t, s).BorrowedObjects)
	_, err = s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// A scan looks at few names under a lock, however many there are, and meets each once.
func TestScansHoldTheLockBriefly(t *testing.T) {
	s := open(t, Options{})
	const n = 64 * 400
	for i := range n {
		put(t, s, fmt.Sprint(i), nil)
	}
	c, pieces, total := &scan{prefix: []byte("")}, 0, 0
	for i := range s.shards {
		for cursor, done := uint64(0), false; !done; pieces++ {
			before := stats64(&s.shards[i])
			cursor, done = c.piece(s, &s.shards[i], cursor)
			took := int(stats64(&s.shards[i]) - before)
			require.LessOrEqual(t, took, scanPiece+8, "with equal tags a few more")
			total += took
		}
	}
	require.Equal(t, n, total)
	require.Greater(t, pieces, n/scanPiece)
	views := s.settle(c)
	require.Len(t, views, n)
	releaseAll(views)
}

func stats64(p *shard) uint64 { return p.gets.Load() }

// What is put, replaced and removed while a scan runs comes or does not; all else comes once.
func TestSnapshotPrefixBesideOthers(t *testing.T) {
	s := open(t, Options{})
	r := seeded(t)
	const steady, moving = 20_000, 2000
	for i := range steady {
		put(t, s, fmt.Sprintf("s/%d", i), fmt.Appendf(nil, "s/%d", i))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		seed := r.IntN(1 << 30)
		wg.Go(func() {
			for i := seed; !stop.Load(); i += 7919 {
				key := fmt.Appendf(nil, "s/m/%d", i%moving)
				if i%3 == 0 {
					_ = s.Remove(key)
				} else if _, err := s.Put(key, key, PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for range rounds {
		views, err := s.SnapshotPrefix([]byte("s/"))
		require.NoError(t, err)
		seen := make(map[string]bool, len(views))
		kept := 0
		for _, v := range views {
			if !bytes.Equal(v.Key(), v.Bytes()) || seen[string(v.Key())] {
				t.Fatalf("%q under %q, or twice", v.Bytes(), v.Key())
			}
			seen[string(v.Key())] = true
			if v.Key()[2] != 'm' {
				kept++
			}
		}
		require.Equal(t, steady, kept)
		releaseAll(views)
	}
	stop.Store(true)
	wg.Wait()
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// A set that comes in the middle of a scan replaces, adds and is changed again: the scan ends with all of it.
func TestSetInTheMiddleOfAScan(t *testing.T) {
	s := open(t, Options{})
	var k []string
	for i := range index.Shards {
		k = append(k, string(keysIn(i, 1)[0]))
	}
	old, fresh, gone := k[:60], k[60:], k[7]
	set := func(data string, keys ...string) {
		var items []Item
		for _, key := range keys {
			items = append(items, item(key, []byte(data)))
		}
		require.NoError(t, s.PutSet(items, PutOptions{}, nil))
	}
	set("1", old...)
	for at := range index.Shards + 1 {
		c := &scan{prefix: []byte("key")}
		s.sets.begin(c)
		for i := range s.shards {
			if i == at {
				set("2", k...)
				set("3", k...)
				set("x", "elsewhere")
				require.NoError(t, s.Remove([]byte(gone)))
			}
			c.shard(s, &s.shards[i])
		}
		if at == index.Shards {
			set("3", k...)
			require.NoError(t, s.Remove([]byte(gone)))
		}
		require.Len(t, c.log, len(k), "each name once, of those with the prefix")
		views := s.settle(c)
		require.Empty(t, s.sets.scans)
		require.Len(t, views, len(k)-1)
		for _, v := range views {
			require.Equal(t, "3", string(v.Bytes()), "%s, set came before shard %d", v.Key(), at)
		}
		require.EqualValues(t, len(views), stats(t, s).BorrowedObjects)
		releaseAll(views)
		for _, key := range fresh {
			require.NoError(t, s.Remove([]byte(key)))
		}
		set("1", old...)
	}
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// A set that is undone in the middle of a scan leaves no trace in it.
func TestUndoInTheMiddleOfAScan(t *testing.T) {
	h := openHalfway(t, EvictNone)
	k := inShards(3)
	put(t, h.Store, k[0], []byte("old"))
	c := &scan{}
	h.sets.begin(c)
	h.meanwhile = func() {
		for i := range index.Shards - 1 {
			c.shard(h.Store, &h.shards[i])
		}
	}
	h.fails(t, PutOptions{}, k...)
	views := h.settle(c)
	require.Len(t, views, 1)
	require.Equal(t, "old", string(views[0].Bytes()))
	releaseAll(views)
	_, err := h.Clear()
	require.NoError(t, err)
	requireEmpty(t, h.Store)
}

func TestCloseDuringAScan(t *testing.T) {
	s := open(t, Options{})
	for i := range 5000 {
		put(t, s, fmt.Sprint(i), nil)
	}
	last := &s.shards[index.Shards-1]
	last.mu.Lock() // the scan has met all others, and stands here
	failed := make(chan error)
	go func() {
		views, err := s.SnapshotPrefix(nil)
		releaseAll(views)
		failed <- err
	}()
	require.Eventually(t, func() bool { return s.shards[index.Shards-2].gets.Load() > 0 }, 10*time.Second, time.Millisecond)
	closed := make(chan error)
	go func() { closed <- s.Close(true) }()
	require.Eventually(t, func() bool { return s.closed.Load() != 0 }, 10*time.Second, time.Millisecond)
	last.mu.Unlock()
	require.ErrorIs(t, <-failed, ErrCancelled)
	require.NoError(t, <-closed)
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond, "something is still borrowed")
}

func TestSnapshotsOutliveTheStore(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", []byte("A"))
	put(t, s, "b", []byte("B"))
	one, err := s.Snapshot(keysOf("a"))
	require.NoError(t, err)
	all, err := s.SnapshotPrefix(nil)
	require.NoError(t, err)
	require.NoError(t, s.Close(true))
	require.Equal(t, "A", string(one[0].Bytes()))
	releaseAll(one)
	require.False(t, s.isUnmapped())
	for _, v := range all {
		require.Equal(t, string(v.Bytes()[0]|0x20), string(v.Key()))
	}
	releaseAll(all)
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
}

// swaps is a store whose set of objects is replaced again and again, and what its readers saw.
type swaps struct {
	s      *Store
	keys   [][]byte
	over   atomic.Bool
	logged atomic.Int64 // scans that had a set in their log
	seen   [3]atomic.Int64
}

const swapKeys = 200

// swap publishes generation g: the keys, and one of its own, with the prefix too. That of five generations before goes.
func (w *swaps) swap(g uint64) error {
	parts := []Part{stay(binary.LittleEndian.AppendUint64(nil, g))}
	items := make([]Item, 0, swapKeys+1)
	for _, key := range w.keys {
		items = append(items, Item{Key: key, Parts: parts})
	}
	items = append(items, Item{Key: fmt.Appendf(nil, "m/own/%d", g), Parts: parts})
	err := w.s.PutSet(items, PutOptions{}, nil)
	if err == nil && g > 5 {
		err = w.s.Remove(fmt.Appendf(nil, "m/own/%d", g-5))
	}
	w.s.sets.mu.Lock()
	for _, c := range w.s.sets.scans {
		if len(c.log) > 0 {
			w.logged.Add(1)
		}
	}
	w.s.sets.mu.Unlock()
	return err
}

// read takes the set in one of three ways and says what is wrong with it.
func (w *swaps) read(how int) (err error) {
	var views []View
	switch how {
	case 0:
		views, err = w.s.Snapshot(w.keys)
	case 1:
		views, err = w.s.SnapshotPrefix([]byte("m/"))
	default:
		w.s.BetweenSets(func() {
			for _, key := range w.keys {
				var v View
				if v, err = w.s.Get(key); err != nil {
					return
				}
				views = append(views, v)
			}
		})
	}
	defer releaseAll(views)
	if err != nil {
		return err
	}
	w.seen[how].Add(1)
	var g, own uint64
	fixed := 0
	for _, v := range views {
		n := binary.LittleEndian.Uint64(v.Bytes())
		if bytes.HasPrefix(v.Key(), []byte("m/own/")) {
			own = max(own, n)
			continue
		}
		if fixed++; fixed > 1 && n != g {
			return fmt.Errorf("way %d: generations %d and %d in one set", how, g, n)
		}
		g = n
	}
	if fixed != swapKeys {
		return fmt.Errorf("way %d: %d of %d keys", how, fixed, swapKeys)
	}
	if how == 1 && own != g {
		return fmt.Errorf("generation %d with the name of %d", g, own)
	}
	return nil
}

// A thousand swaps of a set against four readers: never a mixed one, and memory stays flat.
func TestSwapsAreNeverMixed(t *testing.T) {
	generations, others := uint64(1000), 20_000
	if testing.Short() {
		generations, others = 150, 8000
	}
	w := &swaps{s: open(t, Options{})}
	for i := range swapKeys {
		w.keys = append(w.keys, fmt.Appendf(nil, "m/%d", i))
	}
	for i := range others { // so that a scan takes a while
		put(t, w.s, fmt.Sprint("other/", i), nil)
	}
	require.NoError(t, w.swap(1))
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			for how := reader; !w.over.Load(); how++ {
				if err := w.read(how % 3); err != nil {
					t.Error(err)
					w.over.Store(true)
				}
			}
		})
	}
	wg.Go(func() {
		for i := 0; !w.over.Load(); i++ {
			key := fmt.Appendf(nil, "unrelated/%d", i%500)
			if _, err := w.s.Put(key, key, PutOptions{}); err != nil {
				t.Error(err)
			}
			if i%3 == 0 {
				_ = w.s.Remove(key)
			}
		}
	})
	for g := uint64(2); g <= generations && !w.over.Load(); g++ {
		require.NoError(t, w.swap(g))
	}
	w.over.Store(true)
	wg.Wait()
	t.Logf("%d snapshots, %d of a prefix, %d batches; %d times a scan had a set in its log",
		w.seen[0].Load(), w.seen[1].Load(), w.seen[2].Load(), w.logged.Load())
	require.Positive(t, w.logged.Load(), "no set came while a scan ran")
	st := stats(t, w.s)
	require.LessOrEqual(t, st.Objects, uint64(others+swapKeys+5+500))
	require.LessOrEqual(t, st.Used, 64*(st.Objects+8), "what was replaced has come back")
	_, err := w.s.Clear()
	require.NoError(t, err)
	requireEmpty(t, w.s)
	require.Less(t, stats(t, w.s).Resident, uint64(8<<20), "and was used again")
}

// A scan that began in the middle of a set would not have the first half of it in its log.
func TestScanBeginsBetweenTwoSets(t *testing.T) {
	h := openHalfway(t, EvictNone)
	began := make(chan struct{})
	c := &scan{}
	h.meanwhile = func() {
		go func() { h.sets.begin(c); close(began) }()
		select {
		case <-began:
			t.Error("it began in the middle of a set")
		case <-time.After(20 * time.Millisecond):
		}
	}
	h.fails(t, PutOptions{}, inShards(3)...)
	<-began
	releaseAll(h.settle(c))
}
