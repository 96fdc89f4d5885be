package core

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
)

func TestCapacityErrorNamesWhatIsInTheWay(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20})
	put(t, s, "pinned", make([]byte, 256<<10))
	require.NoError(t, s.Pin([]byte("pinned"), true))
	put(t, s, "viewed", make([]byte, 256<<10))
	v := get(t, s, "viewed")
	w, err := s.Reserve(128 << 10)
	require.NoError(t, err)
	before := stats(t, s)
	_, err = s.Put([]byte("new"), make([]byte, 512<<10), PutOptions{})
	var full *CapacityError
	require.ErrorAs(t, err, &full)
	require.ErrorIs(t, err, ErrCapacity)
	require.Equal(t, CapacityError{
		Want: 512 << 10, Capacity: 1 << 20, Free: 384 << 10, Largest: 384 << 10, Borrowed: 384 << 10, Pinned: 256 << 10,
	}, *full)
	require.ErrorContains(t, err, `raise capacity, remove objects, or open the store with eviction="s3fifo"`)
	after := stats(t, s)
	require.Equal(t, before, after, "a refused put changes nothing")
	w.Abort()
	v.Release()
	put(t, s, "new", make([]byte, 512<<10))
	_, err = s.Put([]byte("huge"), make([]byte, 2<<20), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity)
}

func TestEvictionSparesWhatIsPinnedOrViewed(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20, Eviction: EvictS3FIFO})
	data := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32<<10) }
	put(t, s, "pinned", data(1))
	require.NoError(t, s.Pin([]byte("pinned"), true))
	put(t, s, "viewed", data(2))
	v := get(t, s, "viewed")
	churn := func() {
		for i := range 300 {
			put(t, s, fmt.Sprint("k", i), data(3))
		}
	}
	churn()
	put(t, s, "pinned", data(4)) // the pin follows the name
	churn()
	p := get(t, s, "pinned")
	require.Equal(t, data(4), p.Bytes())
	p.Release()
	w := get(t, s, "viewed")
	require.Equal(t, v.Seq(), w.Seq())
	require.Equal(t, data(2), w.Bytes())
	v.Release()
	w.Release()
	require.NoError(t, s.Pin([]byte("pinned"), false))
	put(t, s, "whole", make([]byte, 1<<20)) // now that nothing is protected all the rest has to go
	st := stats(t, s)
	require.EqualValues(t, 1, st.Objects)
	require.Zero(t, st.PinnedBytes)
	require.EqualValues(t, st.Puts, st.Objects+st.Evictions+1, "one was replaced")
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

func TestEvictionGivesUpWhenEverythingIsHeld(t *testing.T) {
	s := open(t, Options{Capacity: 256 << 10, Eviction: EvictS3FIFO})
	for i := range 4 {
		put(t, s, fmt.Sprint(i), make([]byte, 64<<10))
		require.NoError(t, s.Pin(fmt.Append(nil, i), true))
	}
	_, err := s.Put([]byte("x"), make([]byte, 64<<10), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity)
	require.ErrorContains(t, err, "release views or unpin objects")
	require.NoError(t, s.Pin([]byte("2"), false))
	put(t, s, "x", make([]byte, 64<<10))
	require.EqualValues(t, 1, stats(t, s).Evictions)
}

// A stale candidate must not take down another object in the same record: a put that took the place of an evicted or removed one.
func TestEvictionDoesNotMeetAnotherObjectInTheSameRecord(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20, Eviction: EvictS3FIFO})
	old := put(t, s, "k", []byte("old"))
	unit := s.unitOf("k")
	require.NoError(t, s.Remove([]byte("k")))
	s.drain()
	put(t, s, "k", []byte("new"))
	require.Equal(t, unit, s.unitOf("k"), "the record is used again")
	verdict, _ := s.tryEvict(evictCandidate(unit, old.Seq, 3, index.Hash([]byte("k"))))
	require.Equal(t, stale, verdict)
	v := get(t, s, "k")
	require.Equal(t, "new", string(v.Bytes()))
	v.Release()
}

func (s *Store) unitOf(key string) uint32 {
	p := s.at([]byte(key))
	return p.table.Lookup(p.tag, []byte(key))
}

// Every mapping of the index that can fail at opening does so once.
func TestOpenFailsWhole(t *testing.T) {
	live, regions := index.Live(), leftRegions()
	for n := 0; ; n++ {
		left := n
		s, err := openWith(defaultHost(), nil, Options{Capacity: 1 << 20}, index.Options{BeforeMap: func(int) error {
			if left--; left < 0 {
				return errors.New("out of luck")
			}
			return nil
		}})
		if err == nil {
			require.Greater(t, n, index.Shards)
			require.NoError(t, s.Close(true))
			require.Eventually(t, s.isUnmapped, 10e9, 1e6)
			return
		}
		require.ErrorIs(t, err, ErrMemory)
		require.ErrorContains(t, err, "out of luck")
		require.Equal(t, live, index.Live(), "step %d", n)
		require.Equal(t, regions, leftRegions(), "step %d", n)
	}
}

// When the index cannot grow any more a call fails and everything is as before, whatever the call.
func TestIndexAtItsEnd(t *testing.T) {
	for name, call := range map[string]func(f *fixture, key []byte) error{
		"put": func(f *fixture, key []byte) error {
			_, err := f.s.Put(key, []byte("x"), PutOptions{})
			return err
		},
		"commit": func(f *fixture, key []byte) error {
			w, err := f.s.Reserve(1)
			if err != nil {
				return err
			}
			defer w.Abort()
			_, err = w.Commit(key, bytesDType, []int64{1}, PutOptions{NoProtect: key[len(key)-1] != '7'})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{}
			f.open(t)
			s, err := f.s, error(nil)
			put(t, s, "there", []byte("there"))
			for i := range 20 { // some shards grow before, some after
				require.NoError(t, call(f, fmt.Append(nil, -i)))
			}
			f.noMemory = true
			for i := 0; err == nil; i++ {
				require.Less(t, i, 1_000_000)
				err = call(f, fmt.Append(nil, i))
			}
			require.ErrorIs(t, err, ErrMemory)
			before := f.figures(t)
			for i := range 50 {
				if err := call(f, fmt.Append(nil, "again", i)); err == nil {
					before = f.figures(t)
				} else {
					require.Equal(t, before, f.figures(t))
				}
			}
			v := get(t, s, "there")
			require.Equal(t, "there", string(v.Bytes()))
			v.Release()
			f.noMemory = false
			require.NoError(t, call(f, []byte("at last")))
		})
	}
}

// fixture is a store that runs out of memory for its index when it is told to.
type fixture struct {
	s        *Store
	noMemory bool
}

func (f *fixture) open(t *testing.T) {
	var err error
	f.s, err = openWith(defaultHost(), nil, Options{Capacity: 256 << 20}, index.Options{BeforeMap: func(int) error {
		if f.noMemory {
			return errors.New("out of luck")
		}
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = f.s.Close(true)
		require.Eventually(t, f.s.isUnmapped, 10*time.Second, time.Millisecond)
	})
}

// figures are those that a refused call must not change: it may copy, leave a number out and warm a page.
func (f *fixture) figures(t testing.TB) Stats {
	st := stats(t, f.s)
	st.LastSeq, st.CopiedIn, st.Resident, st.FreeWarm, st.FreeCold = 0, 0, 0, 0, 0
	return st
}

func TestNoRecordAtAll(t *testing.T) {
	f := &fixture{}
	f.open(t)
	f.noMemory = true
	_, err := f.s.Put([]byte("k"), []byte("v"), PutOptions{})
	require.ErrorIs(t, err, ErrMemory)
	_, err = f.s.Reserve(1)
	require.ErrorIs(t, err, ErrMemory)
	requireEmpty(t, f.s)
	f.noMemory = false
	put(t, f.s, "k", nil)
}

func TestAnImpossibleCapacityIsNamed(t *testing.T) {
	_, err := Open(Options{Capacity: 1 << 60})
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorContains(t, err, "capacity 1152921504606846976")
}
