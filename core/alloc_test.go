//go:build !race

package core

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGetAndReleaseAllocateNothing(t *testing.T) {
	for _, o := range []Options{{}, {Eviction: EvictS3FIFO}} {
		s := open(t, o)
		put(t, s, "k", make([]byte, 100))
		key, missing, sum := []byte("k"), []byte("none"), uint64(0)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			v, err := s.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			sum += v.Size() + uint64(v.Bytes()[0]) + uint64(len(v.Shape()))
			v.Release()
			if _, err := s.Get(missing); err == nil {
				t.Fatal("found")
			}
			if ok, _ := s.Exists(key); !ok {
				t.Fatal("lost")
			}
		}))
		require.NotZero(t, sum)
	}
}

func TestPutAllocatesNothingThatStays(t *testing.T) {
	s := open(t, Options{})
	key, data := []byte("k"), make([]byte, 100)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { put(t, s, "k", data); _ = key }), 4.0)
}

// What is counted as copied is what was copied, and nothing else copies.
func TestCopiesAreCounted(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", make([]byte, 1000))
	require.EqualValues(t, 1000, stats(t, s).CopiedIn)
	part := Part{Addr: addressOf(make([]byte, 100)), Size: 50}
	_, err := s.PutParts([]byte("b"), []Part{part, part, {}}, PutOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1100, stats(t, s).CopiedIn)
	_, err = s.Put([]byte("a"), make([]byte, 1000), PutOptions{IfExists: Keep})
	require.NoError(t, err)
	for range 100 {
		v := get(t, s, "a")
		_ = v.Bytes()[999]
		v.Release()
	}
	w, src := produced(t, s, 4096, 1)
	_, err = s.Adopt([]byte("c"), src, PutOptions{})
	require.NoError(t, err)
	w.Abort()
	v, err := s.Take([]byte("c"))
	require.NoError(t, err)
	v.Release()
	st := stats(t, s)
	require.EqualValues(t, 1100, st.CopiedIn)
	require.Zero(t, st.CopiedOut)
}
