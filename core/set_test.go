package core

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tensor"
)

// item is an object of a set with these bytes.
func item(key string, data []byte) Item {
	i := Item{Key: []byte(key)}
	if len(data) > 0 {
		i.Parts = []Part{stay(data)}
	}
	return i
}

// stay keeps data where it is: Go moves what is on a stack, and frees what it knows an address of only.
func stay(data []byte) Part {
	staying.mu.Lock()
	defer staying.mu.Unlock()
	staying.all = append(staying.all, data)
	return Part{addressOf(data), uint64(len(data))}
}

var staying struct {
	mu  sync.Mutex
	all [][]byte
}

// figuresOf are those that a refused call must not change: it may copy, leave a number out and warm a page.
func figuresOf(t testing.TB, s *Store) Stats { return (&fixture{s: s}).figures(t) }

// live is how many objects the policy believes in: those that were added and neither evicted nor removed.
func (s *Store) live() int {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	return int(reflect.ValueOf(s.policy.q).Elem().FieldByName("live").Int())
}

func requireBytes(t testing.TB, s *Store, key, want string) {
	t.Helper()
	v := get(t, s, key)
	require.Equal(t, want, string(v.Bytes()), "under %s", key)
	require.Equal(t, key, string(v.Key()))
	v.Release()
}

func TestPutSet(t *testing.T) {
	for _, o := range []Options{{}, {Eviction: EvictS3FIFO}} {
		s := open(t, o)
		require.NoError(t, s.PutSet(nil, PutOptions{}, nil))
		old := put(t, s, "old", []byte("old"))
		src := tensor.Source{Base: stay([]byte{1, 2, 3, 4, 5, 6}).Addr, DType: bytesDType, Shape: []int64{2, 2}, Strides: []int64{3, 1}}
		items := []Item{
			{Key: []byte("parts"), Parts: []Part{stay([]byte("first ")), {}, stay([]byte("second"))}},
			{Key: []byte("tensor"), Tensor: &src},
			{Key: []byte("empty")},
			item("old", []byte("new")),
		}
		r := make([]PutResult, len(items))
		require.NoError(t, s.PutSet(items, PutOptions{Meta: []byte("m")}, r))
		seen := map[uint64]bool{}
		for i, x := range r {
			require.Equal(t, Stored, x.Outcome)
			require.Greater(t, x.Seq, old.Seq)
			require.False(t, seen[x.Seq])
			seen[x.Seq] = true
			v := get(t, s, string(items[i].Key))
			require.Equal(t, x.Seq, v.Seq())
			require.Equal(t, "m", string(v.Meta()))
			v.Release()
		}
		requireBytes(t, s, "parts", "first second")
		requireBytes(t, s, "tensor", "\x01\x02\x04\x05")
		requireBytes(t, s, "old", "new")
		v := get(t, s, "tensor")
		require.True(t, v.IsTensor())
		require.Equal(t, []int64{2, 2}, v.Shape())
		v.Release()
		require.NoError(t, s.PutSet(items[1:2], PutOptions{AsBytes: true}, nil))
		v = get(t, s, "tensor")
		require.False(t, v.IsTensor())
		require.Empty(t, v.Meta())
		v.Release()
		st := stats(t, s)
		require.EqualValues(t, 4, st.Objects)
		require.EqualValues(t, 6, st.Puts)
		require.EqualValues(t, 3+12+4+3+4, st.CopiedIn)
		if s.policy.on {
			require.Equal(t, 4, s.live())
		}
		_, err := s.Clear()
		require.NoError(t, err)
		requireEmpty(t, s)
	}
}

func TestPutSetKeepsWhatIsThere(t *testing.T) {
	s := open(t, Options{Eviction: EvictS3FIFO})
	old := put(t, s, "b", []byte("mine"))
	items := []Item{item("a", []byte("A")), item("b", []byte("B")), item("c", []byte("C"))}
	r := make([]PutResult, 3)
	before := stats(t, s)
	require.NoError(t, s.PutSet(items, PutOptions{IfExists: Keep}, r))
	require.Equal(t, []Outcome{Stored, Kept, Stored}, []Outcome{r[0].Outcome, r[1].Outcome, r[2].Outcome})
	require.Equal(t, old.Seq, r[1].Seq)
	requireBytes(t, s, "b", "mine")
	st := stats(t, s)
	require.EqualValues(t, 2, st.CopiedIn-before.CopiedIn, "what is kept is not copied")
	require.EqualValues(t, 2, st.Puts-before.Puts)
	require.Equal(t, 3, s.live())
	require.NoError(t, s.PutSet(items, PutOptions{IfExists: Keep}, r))
	require.Equal(t, Kept, r[0].Outcome)
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// A key that somebody takes after the set has looked, while the rest is copied: kept, its own bytes given back.
func TestPutSetKeepsWhatCameMeanwhile(t *testing.T) {
	for _, how := range []IfExists{Keep, Raise} {
		var once atomic.Bool
		var s *Store
		h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool {
			if n == 7 && once.CompareAndSwap(false, true) {
				put(t, s, "first", []byte("mine"))
			}
			return copyGo(dst, src, n, flag)
		}, nil)
		s = openOnHost(t, h, Options{Eviction: EvictS3FIFO})
		r := make([]PutResult, 2)
		err := s.PutSet([]Item{item("first", []byte("set")), item("second", []byte("seconds"))}, PutOptions{IfExists: how}, r)
		requireBytes(t, s, "first", "mine")
		if how == Keep {
			require.NoError(t, err)
			require.Equal(t, Kept, r[0].Outcome)
			requireBytes(t, s, "second", "seconds")
			require.Equal(t, 2, s.live())
		} else {
			require.ErrorIs(t, err, ErrExists)
			require.ErrorContains(t, err, `"first"`)
			require.Zero(t, r[0])
			require.Equal(t, 1, s.live())
		}
		_, err = s.Clear()
		require.NoError(t, err)
		requireEmpty(t, s)
	}
}

// What is refused changes nothing: nobody loses an object for a set that cannot be.
func TestPutSetIsRefusedWhole(t *testing.T) {
	some := make([]byte, 100)
	half := make([]byte, 600<<10)
	strange := tensor.Source{DType: tensor.DType{Code: 99, Bits: 7, Lanes: 1}, Shape: []int64{1}}
	negative := tensor.Source{DType: bytesDType, Shape: []int64{-1}}
	long := string(bytes.Repeat([]byte("k"), index.MaxKey+1))
	for name, c := range map[string]struct {
		last []Item
		kind error
		text string
		o    PutOptions
	}{
		"key twice":      {[]Item{item("a", some)}, ErrInvalid, `key "a" comes twice`, PutOptions{}},
		"kept key twice": {[]Item{item("there", nil), item("there", nil)}, ErrInvalid, `"there" comes twice`, PutOptions{IfExists: Keep}},
		"no key":         {[]Item{item("", some)}, ErrInvalid, `key ""`, PutOptions{}},
		"long key":       {[]Item{item(long, some)}, ErrInvalid, "4097", PutOptions{}},
		"long meta":      {nil, ErrInvalid, "", PutOptions{Meta: make([]byte, index.MaxMeta+1)}},
		"dtype":          {[]Item{{Key: []byte("x"), Tensor: &strange}}, ErrUnsupported, `key "x"`, PutOptions{}},
		"shape":          {[]Item{{Key: []byte("x"), Tensor: &negative}}, ErrInvalid, `key "x"`, PutOptions{}},
		"size":           {[]Item{{Key: []byte("x"), Parts: []Part{{Size: 1 << 63}, {Size: 1 << 63}}}}, ErrInvalid, "parts[0]", PutOptions{}},
		"sizes":          {[]Item{{Key: []byte("x"), Parts: []Part{{Size: maxObject}}}}, ErrInvalid, `key "x"`, PutOptions{}},
		"too large":      {[]Item{item("x", half), item("y", half)}, ErrCapacity, "", PutOptions{}},
		"taken":          {[]Item{item("there", some)}, ErrExists, `"there"`, PutOptions{IfExists: Raise}},
	} {
		for _, e := range []Eviction{EvictNone, EvictS3FIFO} {
			t.Run(fmt.Sprint(name, e), func(t *testing.T) {
				s := open(t, Options{Capacity: 1 << 20, Eviction: e})
				put(t, s, "there", make([]byte, 500<<10))
				before := figuresOf(t, s)
				items := append([]Item{item("a", some), item("b", make([]byte, 300<<10))}, c.last...)
				r := make([]PutResult, len(items))
				err := s.PutSet(items, c.o, r)
				require.ErrorIs(t, err, c.kind)
				require.ErrorContains(t, err, c.text)
				require.Equal(t, before, figuresOf(t, s))
				require.Zero(t, r[0])
				if s.policy.on {
					require.Equal(t, 1, s.live())
				}
				require.NoError(t, s.Remove([]byte("there")))
				requireEmpty(t, s)
			})
		}
	}
}

func TestPutSetFullHalfWay(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20})
	put(t, s, "a", make([]byte, 500<<10))
	require.NoError(t, s.Pin([]byte("a"), true))
	before := figuresOf(t, s)
	part := make([]byte, 300<<10)
	err := s.PutSet([]Item{item("a", part), item("b", part), item("c", part)}, PutOptions{}, nil)
	require.ErrorIs(t, err, ErrCapacity)
	require.Equal(t, before, figuresOf(t, s))
	require.NoError(t, s.PutSet([]Item{item("a", part), item("b", nil)}, PutOptions{}, nil))
	require.EqualValues(t, 300<<10, stats(t, s).PinnedBytes, "the pin follows the name")
	_, err = s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// A set evicts others to make room, never its own members.
func TestPutSetEvictsOthersOnly(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20, Eviction: EvictS3FIFO})
	part := make([]byte, 64<<10)
	for round := range 20 {
		put(t, s, fmt.Sprint("other", round), part)
		var items []Item
		for i := range 15 {
			items = append(items, item(fmt.Sprint("set", round%2, i), part))
		}
		require.NoError(t, s.PutSet(items, PutOptions{}, nil))
		for i := range items {
			requireBytes(t, s, string(items[i].Key), string(part))
		}
	}
	require.EqualValues(t, stats(t, s).Objects, s.live())
	_, err := s.Clear()
	require.NoError(t, err)
	require.Zero(t, s.live())
	requireEmpty(t, s)
}

func TestCloseCancelsASet(t *testing.T) {
	started := make(chan struct{})
	h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool {
		if n != 100 {
			return copyGo(dst, src, n, flag)
		}
		close(started)
		for flag.Load() == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		return false
	}, nil)
	s := openOnHost(t, h, Options{})
	put(t, s, "kept", []byte("old"))
	kept := get(t, s, "kept")
	failed := make(chan error)
	go func() {
		failed <- s.PutSet([]Item{item("kept", []byte("new")), item("big", make([]byte, 100)), item("more", nil)}, PutOptions{}, nil)
	}()
	<-started
	require.NoError(t, s.Close(true))
	require.ErrorIs(t, <-failed, ErrCancelled)
	require.Equal(t, "old", string(kept.Bytes()))
	require.EqualValues(t, 64, s.arena.Stats().Used, "only what is viewed is left")
	kept.Release()
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
}

// A set of many small objects, none of which is a long copy, stops when the store closes.
func TestCloseStopsASetBetweenObjects(t *testing.T) {
	var s *Store
	closed, copies := make(chan error, 1), 0
	h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool {
		if copies++; copies == 10 {
			go func() { closed <- s.Close(true) }()
			for flag.Load() == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
		return copyGo(dst, src, n, flag)
	}, nil)
	s = openOnHost(t, h, Options{})
	var items []Item
	for i := range 1000 {
		items = append(items, item(fmt.Sprint(i), []byte("some")))
	}
	require.ErrorIs(t, s.PutSet(items, PutOptions{}, nil), ErrCancelled)
	require.Equal(t, 10, copies)
	require.NoError(t, <-closed)
}

// halfway is a store in which the publication of a set fails at a key of the last shard, whose table is full and cannot
// grow. meanwhile runs then, when all others have their names.
type halfway struct {
	*Store
	meanwhile func()
	last      []byte // the key that fails
}

const fillers = 192 // a table of 256 homes grows with the next

func openHalfway(t testing.TB, e Eviction) *halfway {
	h := &halfway{}
	var err error
	h.Store, err = openWith(defaultHost(), nil, Options{Capacity: 64 << 20, Eviction: e}, index.Options{BeforeMap: func(n int) error {
		if h.meanwhile == nil || n > 16<<10 { // more than that is memory for records
			return nil
		}
		h.meanwhile()
		return errors.New("out of luck")
	}})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = h.Close(true)
		require.Eventually(t, h.isUnmapped, 10*time.Second, time.Millisecond)
	})
	on := h.policy.on
	h.policy.on = false // it does not hear of the fillers, and does not look into the last shard
	keys := keysIn(index.Shards-1, fillers+1)
	for _, key := range keys[1:] {
		put(t, h.Store, string(key), nil)
	}
	h.policy.on, h.last = on, keys[0]
	return h
}

// keysIn are n keys of one shard.
func keysIn(shard, n int) (keys [][]byte) {
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Appendf(nil, "key %d", i); index.Shard(index.Hash(key)) == shard {
			keys = append(keys, key)
		}
	}
	return keys
}

// fails publishes keys with the bytes "set" beside the one that fails.
func (h *halfway) fails(t testing.TB, o PutOptions, keys ...string) {
	t.Helper()
	var items []Item
	for _, key := range append(keys, string(h.last)) {
		items = append(items, item(key, []byte("set")))
	}
	ran := false
	meanwhile := h.meanwhile
	h.meanwhile = func() {
		ran = true
		if meanwhile != nil {
			done := make(chan struct{})
			go func() { defer close(done); meanwhile() }()
			<-done
		}
	}
	r := make([]PutResult, len(items))
	err := h.PutSet(items, o, r)
	h.meanwhile = nil
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorContains(t, err, "out of luck")
	require.True(t, ran)
	require.Zero(t, r[0])
}

// inShards gives a key of each of the shards, all before the last.
func inShards(n int) (keys []string) {
	for i := range n {
		keys = append(keys, string(keysIn(i, 1)[0]))
	}
	return keys
}

func TestPutSetIsUndone(t *testing.T) {
	for _, e := range []Eviction{EvictNone, EvictS3FIFO} {
		h := openHalfway(t, e)
		k := inShards(4)
		pinned, plain, fresh, kept := k[0], k[1], k[2], k[3]
		was := put(t, h.Store, pinned, []byte("pinned"))
		require.NoError(t, h.Pin([]byte(pinned), true))
		put(t, h.Store, plain, []byte("plain"))
		put(t, h.Store, kept, []byte("kept"))
		v := get(t, h.Store, pinned)
		before := figuresOf(t, h.Store)
		h.fails(t, PutOptions{}, pinned, plain, fresh)
		h.fails(t, PutOptions{IfExists: Keep}, fresh, kept)
		h.fails(t, PutOptions{IfExists: Raise}, fresh)
		require.Equal(t, before, figuresOf(t, h.Store))
		requireBytes(t, h.Store, pinned, "pinned")
		requireBytes(t, h.Store, plain, "plain")
		_, err := h.Get([]byte(fresh))
		require.ErrorIs(t, err, ErrNotFound)
		d, err := h.Describe([]byte(pinned))
		require.NoError(t, err)
		require.True(t, d.Pinned)
		require.Equal(t, was.Seq, d.Seq)
		require.EqualValues(t, 1, d.Views)
		v.Release()
		if h.policy.on {
			require.Equal(t, 3, h.live())
			require.NoError(t, h.Pin([]byte(pinned), false))
			for range 3 {
				require.True(t, h.evictOne())
			}
			require.False(t, h.evictOne())
		}
		_, err = h.Clear()
		require.NoError(t, err)
		requireEmpty(t, h.Store)
	}
}

// Pins that change while a set is published half are those of the name, whatever becomes of the set.
func TestPinsDuringUndo(t *testing.T) {
	h := openHalfway(t, EvictNone)
	k := inShards(3)
	for _, key := range k[:2] {
		put(t, h.Store, key, []byte("old object"))
	}
	require.NoError(t, h.Pin([]byte(k[0]), true))
	h.meanwhile = func() {
		require.NoError(t, h.Pin([]byte(k[0]), false))
		require.NoError(t, h.Pin([]byte(k[1]), true))
		require.NoError(t, h.Pin([]byte(k[2]), true))
	}
	h.fails(t, PutOptions{}, k...)
	st := stats(t, h.Store)
	require.EqualValues(t, 1, st.PinnedObjects)
	require.EqualValues(t, len("old object"), st.PinnedBytes)
	d, err := h.Describe([]byte(k[1]))
	require.NoError(t, err)
	require.True(t, d.Pinned)
	_, err = h.Clear()
	require.NoError(t, err)
	requireEmpty(t, h.Store)
}

// What others do with the names of a half published set stands: they came after it.
func TestOthersDuringUndo(t *testing.T) {
	h := openHalfway(t, EvictS3FIFO)
	k := inShards(6)
	replaced, removed, taken, again, removedNew, same := k[0], k[1], k[2], k[3], k[4], k[5]
	for _, key := range []string{replaced, removed, taken, again, same} {
		put(t, h.Store, key, []byte("old"))
	}
	require.NoError(t, h.Pin([]byte(replaced), true))
	var view View
	h.meanwhile = func() {
		view = get(t, h.Store, same)
		put(t, h.Store, replaced, []byte("theirs"))
		require.NoError(t, h.Remove([]byte(removed)))
		v, err := h.Take([]byte(taken))
		require.NoError(t, err)
		require.Equal(t, "set", string(v.Bytes()))
		v.Release()
		require.NoError(t, h.Remove([]byte(removedNew)))
		unit := h.unitOf(again)
		require.NoError(t, h.Remove([]byte(again)))
		h.drain()
		for i := 0; ; i++ { // until it lies in the record that was the set's
			require.Less(t, i, 100)
			put(t, h.Store, again, []byte("theirs"))
			if h.unitOf(again) == unit {
				break
			}
		}
	}
	h.fails(t, PutOptions{}, k...)
	requireBytes(t, h.Store, replaced, "theirs")
	requireBytes(t, h.Store, again, "theirs")
	requireBytes(t, h.Store, same, "old")
	require.Equal(t, "set", string(view.Bytes()), "who has borrowed it keeps it")
	view.Release()
	for _, key := range []string{removed, taken, removedNew} {
		_, err := h.Get([]byte(key))
		require.ErrorIs(t, err, ErrNotFound, key)
	}
	st := stats(t, h.Store)
	require.EqualValues(t, fillers+3, st.Objects)
	require.EqualValues(t, 1, st.PinnedObjects)
	require.EqualValues(t, len("theirs"), st.PinnedBytes)
	require.EqualValues(t, 4, st.Removes)
	require.Equal(t, 3, h.live())
	_, err := h.Clear()
	require.NoError(t, err)
	require.Equal(t, -fillers, h.live())
	requireEmpty(t, h.Store)
}

// An object that got its name back can be evicted, also when the policy has met it without a name.
func TestRestoredObjectsCanBeEvicted(t *testing.T) {
	h := openHalfway(t, EvictS3FIFO)
	k := inShards(3)
	for _, key := range k {
		put(t, h.Store, key, []byte("old"))
	}
	h.meanwhile = func() { require.False(t, h.evictOne()) }
	h.fails(t, PutOptions{}, k...)
	require.Equal(t, 3, h.live())
	for range k {
		require.True(t, h.evictOne())
	}
	require.False(t, h.evictOne())
	require.Zero(t, h.live())
}

// Import publishes the same way.
func TestImportIsUndoneWhole(t *testing.T) {
	h := openHalfway(t, EvictNone)
	k := inShards(2)
	put(t, h.Store, k[0], []byte("old"))
	before := figuresOf(t, h.Store)
	path := fileOf(t, 100, k[0], k[1], string(h.last))
	h.meanwhile = func() {}
	_, err := h.Import(path, nil, FileOptions{})
	require.ErrorIs(t, err, ErrMemory)
	require.Equal(t, before, figuresOf(t, h.Store))
	requireBytes(t, h.Store, k[0], "old")
	h.meanwhile = nil
	n, err := h.Import(path, nil, FileOptions{})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	_, err = h.Clear()
	require.NoError(t, err)
	requireEmpty(t, h.Store)
}

// A file that cannot fit costs nobody an object.
func TestImportThatCannotFitEvictsNothing(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20, Eviction: EvictS3FIFO})
	put(t, s, "there", make([]byte, 500<<10))
	_, err := s.Import(fileOf(t, 600<<10, "a", "b"), nil, FileOptions{})
	require.ErrorIs(t, err, ErrCapacity)
	_, err = s.Import(fileOf(t, 600<<10, "a", ""), nil, FileOptions{})
	require.ErrorIs(t, err, ErrInvalid)
	require.Zero(t, stats(t, s).Evictions)
}

// Of sets that must not meet a taken key one wins, and it wins whole.
func TestOneOfManySetsWins(t *testing.T) {
	s := open(t, Options{})
	k := inShards(8)
	for range 200 {
		start, won := make(chan struct{}), make(chan byte, 4)
		for g := range byte(4) {
			go func() {
				data := []byte{g}
				var items []Item
				for i := range k {
					items = append(items, item(k[(i+int(g))%len(k)], data))
				}
				<-start
				if err := s.PutSet(items, PutOptions{IfExists: Raise}, nil); err == nil {
					won <- g
				} else {
					won <- 99
					if !errors.Is(err, ErrExists) {
						t.Error(err)
					}
				}
			}()
		}
		close(start)
		winner := byte(99)
		for range 4 {
			if g := <-won; g != 99 {
				require.EqualValues(t, 99, winner, "two sets won")
				winner = g
			}
		}
		require.NotEqualValues(t, 99, winner)
		for _, key := range k {
			requireBytes(t, s, key, string([]byte{winner}))
		}
		_, err := s.Clear()
		require.NoError(t, err)
	}
	requireEmpty(t, s)
}

// besides is a name that begins with key and is not in the last shard.
func besides(key string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint(key, " ", i); index.Shard(index.Hash([]byte(name))) != index.Shards-1 {
			return name
		}
	}
}

// While a set is being published nobody holds a shard but for one name: a get of any other goes on.
func TestPublishingHoldsOneShard(t *testing.T) {
	for _, how := range []IfExists{Replace, Keep, Raise} {
		h := openHalfway(t, EvictNone)
		k := inShards(index.Shards - 1)
		h.meanwhile = func() {
			for _, key := range k {
				requireBytes(t, h.Store, key, "set")
				put(t, h.Store, besides(key), nil)
			}
		}
		h.fails(t, PutOptions{IfExists: how}, k...)
	}
}
