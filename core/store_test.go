package core

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

func TestPutGetReplaceRemove(t *testing.T) {
	s := open(t, Options{})
	r, err := s.Put([]byte("a"), []byte("one"), PutOptions{Meta: []byte("m")})
	require.NoError(t, err)
	require.Equal(t, Stored, r.Outcome)
	v := get(t, s, "a")
	require.Equal(t, "one", string(v.Bytes()))
	require.Equal(t, "m", string(v.Meta()))
	require.Greater(t, put(t, s, "a", []byte("second")).Seq, r.Seq)
	require.Equal(t, "one", string(v.Bytes()), "a view keeps the old object")
	w := get(t, s, "a")
	require.Equal(t, "second", string(w.Bytes()))
	require.NoError(t, s.Remove([]byte("a")))
	_, err = s.Get([]byte("a"))
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, "second", string(w.Bytes()))
	v.Release()
	w.Release()
	w.Release()
	st := stats(t, s)
	require.Zero(t, st.Used)
	require.Zero(t, st.BorrowedBytes)
}

func TestIfExists(t *testing.T) {
	s := open(t, Options{})
	first := put(t, s, "k", []byte("a"))
	r, err := s.Put([]byte("k"), []byte("b"), PutOptions{IfExists: Keep})
	require.NoError(t, err)
	require.Equal(t, PutResult{first.Seq, Kept}, r)
	_, err = s.Put([]byte("k"), []byte("b"), PutOptions{IfExists: Raise})
	require.ErrorIs(t, err, ErrExists)
	st := stats(t, s)
	require.EqualValues(t, 1, st.Objects)
	require.EqualValues(t, 64, st.Used)
}

func TestReserveAdoptTake(t *testing.T) {
	s := open(t, Options{})
	w, err := s.Reserve(8192)
	require.NoError(t, err)
	copy(bytesAt(w.Addr(), w.Size()), bytes.Repeat([]byte{7}, 8192))
	f32, err := tensor.ParseDType("float32")
	require.NoError(t, err)
	src := tensor.Source{Base: w.Addr(), DType: f32, Shape: []int64{2048}}
	r, err := s.Adopt([]byte("x"), src, PutOptions{})
	require.NoError(t, err)
	require.Equal(t, Adopted, r.Outcome)
	_, err = s.Adopt([]byte("y"), src, PutOptions{})
	require.ErrorIs(t, err, ErrAlreadyAdopted)
	_, err = s.Take([]byte("x"))
	require.ErrorIs(t, err, ErrBusy, "the producer's buffer counts as a view")
	w.Abort()
	v, err := s.Take([]byte("x"))
	require.NoError(t, err)
	bytesAt(v.WriterAddr(), 8192)[0] = 1
	v.Release()
	st := stats(t, s)
	require.Zero(t, st.Used)
	require.Zero(t, st.Protected)
	require.EqualValues(t, 1, st.Adoptions)
	require.Zero(t, st.CopiedIn)
}

func TestCloseWithViews(t *testing.T) {
	s := open(t, Options{})
	for i := range 1000 {
		put(t, s, fmt.Sprint(i), make([]byte, 100))
	}
	v := get(t, s, "7")
	require.NoError(t, s.Close(true))
	require.ErrorIs(t, s.Close(true), ErrClosed)
	require.Len(t, bytes.Clone(v.Bytes()), 100)
	_, err := s.Get([]byte("7"))
	require.ErrorIs(t, err, ErrClosed)
	require.Never(t, s.isUnmapped, 5e7, 1e7)
	v.Release()
	require.Eventually(t, s.isUnmapped, 5e9, 1e6)
}

func TestFullStoreAndEviction(t *testing.T) {
	s := open(t, Options{Capacity: 4 << 20})
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = s.Put(fmt.Append(nil, n), make([]byte, 100<<10), PutOptions{})
	}
	var full *CapacityError
	require.ErrorAs(t, err, &full)
	require.ErrorIs(t, err, ErrCapacity)
	e := open(t, Options{Capacity: 4 << 20, Eviction: EvictS3FIFO})
	put(t, e, "pinned", make([]byte, 100<<10))
	require.NoError(t, e.Pin([]byte("pinned"), true))
	for i := range 10 * n {
		put(t, e, fmt.Sprint(i), make([]byte, 100<<10))
	}
	ok, err := e.Exists([]byte("pinned"))
	require.NoError(t, err)
	require.True(t, ok)
}

func TestListAndBorrows(t *testing.T) {
	s := open(t, Options{})
	want := map[string]bool{}
	for i := range 5000 {
		k := fmt.Sprintf("%d/%d", i%2, i)
		put(t, s, k, nil)
		if i%2 == 1 {
			want[k] = true
		}
	}
	for cursor := uint64(0); cursor != ListEnd; {
		var err error
		n := 0
		cursor, err = s.List([]byte("1/"), cursor, func(group [][]byte) bool {
			if n++; n > 3 {
				return false
			}
			for _, key := range group {
				require.True(t, want[string(key)], "%s twice or foreign", key)
				delete(want, string(key))
			}
			return true
		})
		require.NoError(t, err)
	}
	require.Empty(t, want)
	v := get(t, s, "1/1")
	var names []string
	require.NoError(t, s.Borrows(func(b Borrow) bool { names = append(names, string(b.Key)); return true }))
	require.Equal(t, []string{"1/1"}, names)
	v.Release()
}

func TestAPutThatCannotFitEvictsNothing(t *testing.T) {
	s := open(t, Options{Capacity: 8 << 20, Eviction: EvictS3FIFO})
	for i := range 40 {
		put(t, s, fmt.Sprint(i), make([]byte, 100<<10))
	}
	v := get(t, s, "0")
	defer v.Release()
	_, err := s.Put([]byte("large"), make([]byte, 8<<20), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity)
	require.EqualValues(t, 40, stats(t, s).Objects)
	_, err = s.Put([]byte("fits"), make([]byte, 3<<20), PutOptions{})
	require.NoError(t, err)
}
