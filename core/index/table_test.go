package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/arena/cell"
)

// hashes of rising weakness; the store uses the first.
var hashes = map[string]func([]byte) uint32{
	"strong":       strongTag,
	"8 tags":       func(k []byte) uint32 { return strongTag(k) & 7 << 29 },
	"16 bits low":  func(k []byte) uint32 { return strongTag(k) & 0xffff },
	"16 bits high": func(k []byte) uint32 { return strongTag(k) | 0xffff0000 },
	"one tag":      func([]byte) uint32 { return 12345678 },
	"tag 0":        func([]byte) uint32 { return 0 },
	"last tag":     func([]byte) uint32 { return 1<<32 - 1 },
}

func randomKey(r *rand.Rand, n int) []byte {
	k := fmt.Appendf(nil, "key/%d", r.IntN(n))
	for range r.IntN(4) * r.IntN(60) {
		k = append(k, k[len(k)-1]) // the length follows from the draw, so keys differ in length a lot
	}
	return k
}

func TestTableIsAMap(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			r := seeded(t)
			s := newShard(t, Options{}, hash)
			model := map[string]uint64{}
			phases := []int{3, 1, 3, 0, 3} // puts out of 4 operations: the table grows, shrinks, empties, grows
			steps := 12000
			if name != "strong" { // equal tags are searched one by one
				steps = 800
			}
			if inRace {
				steps /= 4
			}
			for _, puts := range phases {
				for i := range steps {
					key := randomKey(r, steps)
					if r.IntN(4) < puts {
						replaced, err := s.put(key, uint64(i)+1)
						require.NoError(t, err)
						_, had := model[string(key)]
						require.Equal(t, had, replaced)
						model[string(key)] = uint64(i) + 1
					} else {
						_, had := model[string(key)]
						require.Equal(t, had, s.remove(key))
						delete(model, string(key))
					}
					if i%(steps/4) == 0 {
						checkTable(t, s.tab)
						checkHeap(t, s.h)
					}
				}
				if puts == 0 {
					for key := range model {
						require.True(t, s.remove([]byte(key)))
					}
					clear(model)
				}
				require.Equal(t, len(model), s.tab.Len())
				for key, want := range model {
					got, ok := s.get([]byte(key))
					require.True(t, ok)
					require.Equal(t, want, got)
				}
			}
		})
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	for i := range 1000 {
		_, err := s.put(fmt.Appendf(nil, "key/%d", i), 1)
		require.NoError(t, err)
	}
	key, absent := []byte("key/500"), []byte("key/1000")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		s.get(key)
		s.get(absent)
	}))
}

func TestPutAndRemoveAllocateNothing(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	key := []byte("key")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, err := s.put(key, 1)
		if err != nil || !s.remove(key) {
			t.Fatal(err)
		}
	}))
}

// A put that cannot grow the table fails before anything has changed, and works once memory is back.
func TestGrowthFailsCleanly(t *testing.T) {
	refuse := false
	refused := errors.New("refused by the test")
	s := newShard(t, Options{BeforeMap: func(int) error {
		if refuse {
			return refused
		}
		return nil
	}}, strongTag)
	stored := 0
	for refuse = false; stored < 5000; refuse = true {
		key := fmt.Appendf(nil, "key/%d", stored)
		_, err := s.put(key, uint64(stored)+1)
		if err != nil {
			require.ErrorIs(t, err, ErrNoMemory)
			require.ErrorIs(t, err, refused)
			var typed *MemoryError
			require.ErrorAs(t, err, &typed)
			require.Positive(t, typed.Bytes)
			require.ErrorIs(t, s.tab.Reserve(), ErrNoMemory)
			require.Equal(t, stored, s.tab.Len())
			_, found := s.get(key)
			require.False(t, found)
			checkTable(t, s.tab)
			checkHeap(t, s.h)
			refuse = false
			require.NoError(t, s.tab.Reserve())
			_, err = s.put(key, uint64(stored)+1)
			require.NoError(t, err)
		}
		stored++
	}
	for i := range stored {
		got, ok := s.get(fmt.Appendf(nil, "key/%d", i))
		require.True(t, ok)
		require.Equal(t, uint64(i)+1, got)
	}
}

func TestNewTableFailsCleanly(t *testing.T) {
	var refused error
	h := newHeap(t, Options{BeforeMap: func(int) error { return refused }})
	refused = errors.New("refused by the test")
	before := Live()
	_, err := NewTable(h)
	require.ErrorIs(t, err, ErrNoMemory)
	require.Equal(t, before, Live())
}

func TestAbsentRecordsChangeNothing(t *testing.T) {
	s := newShard(t, Options{}, func([]byte) uint32 { return 7 })
	_, err := s.put([]byte("a"), 1)
	require.NoError(t, err)
	unit := s.tab.Lookup(7, []byte("a"))
	require.False(t, s.tab.Swap(7, unit+1, unit))
	require.False(t, s.tab.Swap(8, unit, unit))
	require.False(t, s.tab.Delete(7, unit+1))
	require.False(t, s.tab.Delete(6, unit))
	require.Equal(t, unit, s.tab.Lookup(7, []byte("a")))
	require.Zero(t, s.tab.Lookup(7, []byte("b")))
	require.Zero(t, s.tab.Lookup(6, []byte("a")))
	require.Equal(t, 1, s.tab.Len())
}

func TestTrimmedTable(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	small := s.tab.Bytes()
	for i := range 20000 {
		_, err := s.put(fmt.Appendf(nil, "key/%d", i), uint64(i))
		require.NoError(t, err)
	}
	large := s.tab.Bytes()
	require.Greater(t, large, 10*small)
	require.NoError(t, s.tab.Trim())
	require.Equal(t, large, s.tab.Bytes(), "nothing to gain yet")
	for i := 50; i < 20000; i++ {
		require.True(t, s.remove(fmt.Appendf(nil, "key/%d", i)))
	}
	require.NoError(t, s.tab.Trim())
	require.Equal(t, small, s.tab.Bytes())
	for i := range 50 {
		got, ok := s.get(fmt.Appendf(nil, "key/%d", i))
		require.True(t, ok)
		require.Equal(t, uint64(i), got)
	}
}

// One million names leave nothing on the Go heap for the collector to look at.
func TestMillionNamesAreOffTheGoHeap(t *testing.T) {
	if inRace {
		t.Skip("with the tag race the memory is on the Go heap")
	}
	count := 1_000_000
	if testing.Short() {
		count = 100_000
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, _ := filled(t, count)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, after.HeapObjects, before.HeapObjects+1000)
	require.Less(t, after.HeapAlloc, before.HeapAlloc+1<<20)
	var buf []byte
	for i := range count {
		if buf = name40(buf, uint64(i)); n.lookup(buf) == 0 {
			t.Fatalf("name %d is lost", i)
		}
	}
	if !testing.Short() {
		require.LessOrEqual(t, float64(n.bytes())/float64(count), 165.0, "bytes mapped for each object")
	}
}

// Readers under the read lock must never see a record that is not the key's own, whatever writers do.
func TestHammer(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	var mu sync.RWMutex // what the store holds for each shard
	const keys, writers, readers = 300, 2, 2
	rounds := 20000
	if inRace {
		rounds = 3000
	}
	name := func(i int) []byte { // the length differs, so that freed memory changes hands
		k := binary.BigEndian.AppendUint32(nil, uint32(i))
		return append(k, make([]byte, i%200)...)
	}
	var wg sync.WaitGroup
	for w := range writers {
		r := rand.New(rand.NewPCG(seeded(t).Uint64(), uint64(w)))
		wg.Go(func() {
			for range rounds {
				i := r.IntN(keys)
				key, tag := name(i), strongTag(name(i))
				unit, c, err := record(s.h, r.IntN(Stripes), Content{Key: key})
				if err != nil {
					t.Error(err)
					return
				}
				c.Seq = uint64(i)
				mu.Lock()
				old := s.tab.Lookup(tag, key)
				switch {
				case old == 0:
					err = s.tab.Insert(tag, unit)
				case r.IntN(2) == 0:
					s.tab.Swap(tag, old, unit)
				default:
					s.tab.Delete(tag, old)
				}
				if old != 0 && s.tab.Lookup(tag, key) == 0 {
					s.h.Free(unit)
				}
				mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				if old != 0 {
					s.h.Free(old)
				}
			}
		})
	}
	for w := range readers {
		r := rand.New(rand.NewPCG(seeded(t).Uint64(), uint64(w)))
		wg.Go(func() {
			for range rounds {
				i := r.IntN(keys)
				key := name(i)
				mu.RLock()
				if unit := s.tab.Lookup(strongTag(key), key); unit != 0 {
					if c := s.h.At(unit); c.Kind != cell.KindRecord || c.Seq != uint64(i) {
						t.Errorf("key %d finds kind %d, object %d", i, c.Kind, c.Seq)
					}
				}
				mu.RUnlock()
			}
		})
	}
	walked := 0
	for range 20 {
		s.h.Walk(func(uint32, *cell.Cell) bool { walked++; return true })
		s.h.Trim()
	}
	wg.Wait()
	n := 0
	s.h.Walk(func(uint32, *cell.Cell) bool { n++; return true })
	require.Equal(t, s.tab.Len(), n, "records that no name leads to")
}

func FuzzTable(f *testing.F) {
	f.Add([]byte("aAbBcC\x00\xff"), uint32(0xf0000000))
	f.Add([]byte("abcdefgh"), uint32(0))
	f.Add([]byte{1, 130, 2, 131, 1, 3}, uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, ops []byte, mask uint32) {
		s := newShard(t, Options{}, func(k []byte) uint32 { return (binary.BigEndian.Uint32(k) * 0x9e3779b9) & mask })
		model := map[string]uint64{}
		for i, op := range ops {
			// A byte of the input does something to a run of 16 keys, so that short inputs grow the table.
			for j := range byte(16) {
				key := make([]byte, 4+int(op%64)*int(j))
				key[2], key[3] = op%64, j
				if op < 128 {
					_, err := s.put(key, uint64(i))
					require.NoError(t, err)
					model[string(key)] = uint64(i)
				} else {
					_, had := model[string(key)]
					require.Equal(t, had, s.remove(key))
					delete(model, string(key))
				}
			}
		}
		require.Equal(t, len(model), s.tab.Len())
		for key, want := range model {
			got, ok := s.get([]byte(key))
			require.True(t, ok)
			require.Equal(t, want, got)
		}
		checkTable(t, s.tab)
	})
}
