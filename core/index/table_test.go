package index

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
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
			if name != "strong" {
				steps = 1500
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
					if i%500 == 0 {
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
