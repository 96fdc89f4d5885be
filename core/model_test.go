package core

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

// object is what the model knows of an object.
type object struct {
	data    []byte
	meta    []byte
	shape   []int64 // nil for plain bytes
	seq     uint64
	pinned  bool
	adopted bool
}

// held is a view of an object that may have lost its name.
type held struct {
	v   View
	key string
	o   *object
}

// model is a store beside a map that says what must be in it. Its operations come from a tape of bytes, so that a fuzzer
// can write them.
type model struct {
	t       testing.TB
	s       *Store
	tape    []byte
	names   map[string]*object
	views   []held
	open    []reserved
	lastSeq uint64
	count   uint64 // puts so far: each has content of its own
	want    Stats
}

// reserved is an open reservation and what its producer wrote.
type reserved struct {
	w    *WriteBuffer
	data []byte
}

func (m *model) byte() byte {
	if len(m.tape) == 0 {
		return 0
	}
	b := m.tape[0]
	m.tape = m.tape[1:]
	return b
}

func (m *model) key() string { return fmt.Sprintf("%c/%d", 'a'+m.byte()%2, m.byte()%12) }

func (m *model) data() []byte {
	m.count++
	n := int(m.byte()) << (m.byte() % 9)
	b := bytes.Repeat([]byte{byte(m.count), byte(m.count >> 8)}, n/2+1)
	return b[:n]
}

func (m *model) options() PutOptions {
	b := m.byte()
	o := PutOptions{IfExists: IfExists(max(0, int(b%5)-2))}
	if b&64 != 0 {
		o.Meta = bytes.Repeat([]byte{b}, int(b))
	}
	return o
}

// run plays the tape to its end.
func (m *model) run() {
	steps := []func(){m.put, m.put, m.putTensor, m.get, m.get, m.release, m.remove, m.take, m.pin, m.reserve, m.commit, m.abort, m.describe, m.check}
	for len(m.tape) > 0 {
		steps[int(m.byte())%len(steps)]()
	}
	m.check()
}

func (m *model) put() {
	key, data, o := m.key(), m.data(), m.options()
	r, err := m.s.Put([]byte(key), data, o)
	m.stored(key, &object{data: data, meta: o.Meta}, o, r, err)
}

func (m *model) putTensor() {
	key, data, o := m.key(), m.data(), m.options()
	src := tensor.Source{DType: bytesDType, Shape: []int64{1, int64(len(data))}}
	if len(data) > 0 {
		src.Base = addressOf(data)
	}
	obj := &object{data: data, meta: o.Meta, shape: src.Shape}
	if o.AsBytes = m.byte()%4 == 0; o.AsBytes {
		obj.shape = nil
	}
	r, err := m.s.PutTensor([]byte(key), src, o)
	m.stored(key, obj, o, r, err)
}

// stored compares what a put or commit answered with what the model expects, and says whether there is a new object.
func (m *model) stored(key string, n *object, o PutOptions, r PutResult, err error) bool {
	old := m.names[key]
	switch {
	case old != nil && o.IfExists == Keep && err == nil:
		if m.has(key) {
			require.Equal(m.t, PutResult{old.seq, Kept}, r)
			return false
		}
		old = nil // evicted before
	case old != nil && errors.Is(err, ErrExists):
		require.Equal(m.t, Raise, o.IfExists)
		return false
	}
	if errors.Is(err, ErrCapacity) {
		m.afterEviction()
		return false
	}
	require.NoError(m.t, err)
	if old != nil && o.IfExists == Raise {
		require.True(m.t, m.s.policy.on, "stored over a taken key")
		old = nil
	}
	require.Greater(m.t, r.Seq, m.lastSeq)
	n.seq, m.lastSeq = r.Seq, r.Seq
	if old != nil {
		n.pinned = old.pinned // follows the name; an evicted object had none
	}
	m.names[key] = n
	m.want.Puts++
	m.afterEviction()
	return true
}

func (m *model) has(key string) bool {
	d, err := m.s.Describe([]byte(key))
	return err == nil && d.Seq == m.names[key].seq
}

// afterEviction forgets what was evicted: nothing that was pinned or viewed, and only where the store evicts.
func (m *model) afterEviction() {
	if !m.s.policy.on {
		return
	}
	for key, o := range m.names {
		d, err := m.s.Describe([]byte(key))
		if err == nil && d.Seq == o.seq {
			continue
		}
		require.ErrorIs(m.t, err, ErrNotFound)
		require.False(m.t, o.pinned, "a pinned object was evicted")
		for _, h := range m.views {
			require.NotSame(m.t, o, h.o, "a viewed object was evicted")
		}
		delete(m.names, key)
	}
}

func (m *model) get() {
	key := m.key()
	v, err := m.s.Get([]byte(key))
	o := m.names[key]
	if o == nil {
		require.ErrorIs(m.t, err, ErrNotFound)
		m.want.Misses++
		return
	}
	require.NoError(m.t, err)
	m.want.Gets++
	h := held{v, key, o}
	m.same(h)
	if len(m.views) < 8 {
		m.views = append(m.views, h)
	} else {
		v.Release()
	}
}

func (m *model) same(h held) {
	require.Equal(m.t, h.o.data, append([]byte{}, h.v.Bytes()...))
	require.Equal(m.t, string(h.o.meta), string(h.v.Meta()))
	require.Equal(m.t, h.key, string(h.v.Key()))
	require.Equal(m.t, h.o.seq, h.v.Seq())
	require.Equal(m.t, h.o.shape != nil, h.v.IsTensor())
	require.Equal(m.t, append([]int64{}, h.o.shape...), append([]int64{}, h.v.Shape()...))
}

func (m *model) release() {
	if len(m.views) == 0 {
		return
	}
	i := int(m.byte()) % len(m.views)
	m.same(m.views[i])
	m.views[i].v.Release()
	m.views = slices.Delete(m.views, i, i+1)
}

func (m *model) remove() {
	key := m.key()
	err := m.s.Remove([]byte(key))
	if m.names[key] == nil {
		require.ErrorIs(m.t, err, ErrNotFound)
		return
	}
	require.NoError(m.t, err)
	m.want.Removes++
	delete(m.names, key)
}

func (m *model) take() {
	key := m.key()
	v, err := m.s.Take([]byte(key))
	o := m.names[key]
	switch {
	case o == nil:
		require.ErrorIs(m.t, err, ErrNotFound)
	case slices.ContainsFunc(m.views, func(h held) bool { return h.o == o }):
		require.ErrorIs(m.t, err, ErrBusy)
	default:
		require.NoError(m.t, err)
		m.same(held{v, key, o})
		clear(bytesAt(v.WriterAddr(), v.Size()))
		v.Release()
		m.want.Removes++
		delete(m.names, key)
	}
}

func (m *model) pin() {
	key, pinned := m.key(), m.byte()%2 == 0
	err := m.s.Pin([]byte(key), pinned)
	if o := m.names[key]; o != nil {
		require.NoError(m.t, err)
		o.pinned = pinned
	} else {
		require.ErrorIs(m.t, err, ErrNotFound)
	}
}

func (m *model) reserve() {
	data := m.data()
	w, err := m.s.Reserve(uint64(len(data)))
	m.afterEviction()
	if err != nil {
		require.ErrorIs(m.t, err, ErrCapacity)
		return
	}
	copy(bytesAt(w.Addr(), w.Size()), data)
	m.open = append(m.open, reserved{w, data})
}

func (m *model) commit() {
	key, o := m.key(), m.options()
	if len(m.open) == 0 {
		return
	}
	i := int(m.byte()) % len(m.open)
	w := m.open[i]
	obj := &object{data: w.data, meta: o.Meta, adopted: true}
	dt := tensor.DType{}
	if m.byte()%2 == 0 {
		dt, obj.data = bytesDType, w.data[:len(w.data)/2]
		obj.shape = []int64{int64(len(obj.data)), 1}
	}
	r, err := w.w.Commit([]byte(key), dt, obj.shape, o)
	if m.stored(key, obj, o, r, err) {
		require.Equal(m.t, Adopted, r.Outcome)
		m.want.Adoptions++
		m.open = slices.Delete(m.open, i, i+1)
	}
}

func (m *model) abort() {
	if len(m.open) > 0 {
		m.open[0].w.Abort()
		m.open = m.open[1:]
	}
}

func (m *model) describe() {
	key := m.key()
	d, err := m.s.Describe([]byte(key))
	o := m.names[key]
	if o == nil {
		require.ErrorIs(m.t, err, ErrNotFound)
		return
	}
	require.NoError(m.t, err)
	views := uint64(0)
	for _, h := range m.views {
		if h.o == o {
			views++
		}
	}
	require.Equal(m.t, Description{
		Size: uint64(len(o.data)), Extent: d.Extent, Seq: o.seq, Views: views, Tensor: o.shape != nil, DType: d.DType,
		Shape: o.shape, Meta: d.Meta, Pinned: o.pinned, Adopted: o.adopted,
	}, d)
	require.Equal(m.t, string(o.meta), string(d.Meta))
	require.GreaterOrEqual(m.t, d.Extent, d.Size)
}

// check compares all of the store with the model.
func (m *model) check() {
	prefix := string(rune('a' + m.byte()%2))
	listed := map[string]bool{}
	for cursor := uint64(0); cursor != ListEnd; {
		var err error
		cursor, err = m.s.List([]byte(prefix), cursor, func(group [][]byte) bool {
			for _, k := range group {
				require.False(m.t, listed[string(k)], "%s listed twice", k)
				listed[string(k)] = true
			}
			return true
		})
		require.NoError(m.t, err)
	}
	want := m.want
	for key, o := range m.names {
		require.Equal(m.t, key[:1] == prefix, listed[key], "%s in the list", key)
		delete(listed, key)
		want.Objects++
		if o.pinned {
			want.PinnedObjects++
			want.PinnedBytes += uint64(len(o.data))
		}
	}
	require.Empty(m.t, listed)
	for _, h := range m.views {
		m.same(h)
	}
	m.compareStats(want)
}

func (m *model) compareStats(want Stats) {
	st := stats(m.t, m.s)
	viewed := map[*object]bool{}
	for _, h := range m.views {
		viewed[h.o] = true
	}
	for o := range viewed {
		want.BorrowedBytes += uint64(len(o.data))
	}
	for _, w := range m.open {
		want.BorrowedBytes += uint64(len(w.data))
	}
	want.BorrowedObjects = uint64(len(viewed) + len(m.open))
	require.Equal(m.t, want, Stats{
		Objects: st.Objects, PinnedObjects: st.PinnedObjects, PinnedBytes: st.PinnedBytes,
		BorrowedObjects: st.BorrowedObjects, BorrowedBytes: st.BorrowedBytes,
		Puts: st.Puts, Gets: st.Gets, Misses: st.Misses, Removes: st.Removes, Adoptions: st.Adoptions,
	})
	if !m.s.policy.on {
		require.Zero(m.t, st.Evictions)
	}
	require.GreaterOrEqual(m.t, st.LastSeq, m.lastSeq)
}

// finish closes the store first and releases what is left behind it, which keeps its bytes.
func (m *model) finish() {
	require.NoError(m.t, m.s.Close(true))
	for _, h := range m.views {
		m.same(h)
		require.False(m.t, m.s.isUnmapped())
		h.v.Release()
	}
	for _, w := range m.open {
		require.Equal(m.t, w.data, append([]byte{}, bytesAt(w.w.Addr(), w.w.Size())...))
		_, err := w.w.Commit([]byte("late"), tensor.DType{}, nil, PutOptions{})
		require.ErrorIs(m.t, err, ErrClosed)
		w.w.Abort()
	}
}

func play(t testing.TB, o Options, tape []byte) {
	m := &model{t: t, s: open(t, o), tape: tape, names: map[string]*object{}}
	m.run()
	if len(tape)%2 == 0 {
		m.finish()
		return
	}
	for _, h := range m.views {
		h.v.Release()
	}
	for _, w := range m.open {
		w.w.Abort()
	}
	keys := slices.Sorted(maps.Keys(m.names))
	for _, key := range keys {
		require.NoError(t, m.s.Remove([]byte(key)))
	}
	requireEmpty(t, m.s)
}

var modelStores = map[string]Options{
	"roomy": {Capacity: 16 << 20},
	"full":  {Capacity: 192 << 10},
	"evict": {Capacity: 192 << 10, Eviction: EvictS3FIFO},
}

func TestModel(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for name, o := range modelStores {
		t.Run(name, func(t *testing.T) {
			r := seeded(t)
			for range rounds {
				tape := make([]byte, 4000+r.IntN(2))
				for i := range tape {
					tape[i] = byte(r.Uint32())
				}
				play(t, o, tape)
			}
		})
	}
}

func FuzzOps(f *testing.F) {
	f.Add(byte(0), []byte("put, get, remove"))
	f.Add(byte(1), bytes.Repeat([]byte{0, 1, 2, 255, 8, 0}, 40))
	f.Add(byte(2), bytes.Repeat([]byte{9, 255, 7, 10, 0, 1, 2, 0, 3}, 40))
	f.Fuzz(func(t *testing.T, which byte, tape []byte) {
		name := []string{"roomy", "full", "evict"}[which%3]
		play(t, modelStores[name], tape[:min(len(tape), 2000)])
	})
}
