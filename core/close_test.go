package core

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tensor"
)

// What is out when a store closes comes back in any order, from any goroutine; the last one has everything unmapped.
func TestReleaseOrderAfterClose(t *testing.T) {
	r := seeded(t)
	for range 20 {
		s := open(t, Options{Capacity: 4 << 20})
		var out []func()
		for i := range 30 {
			key, data := fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 1+r.IntN(50_000))
			put(t, s, key, data)
			for range r.IntN(3) {
				v := get(t, s, key)
				out = append(out, func() {
					if !bytes.Equal(data, v.Bytes()) {
						t.Errorf("view of %s changed", key)
					}
					v.Release()
				})
			}
			if r.IntN(3) == 0 {
				w, src := produced(t, s, 4096, byte(i))
				if r.IntN(2) == 0 {
					_, err := s.Adopt([]byte(key), src, PutOptions{})
					require.NoError(t, err)
				}
				out = append(out, w.Abort)
			}
		}
		v := get(t, s, "0")
		require.NoError(t, s.Close(r.IntN(2) == 0))
		require.ErrorIs(t, s.Close(true), ErrClosed)
		r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for j := i; j < len(out); j += 3 {
					out[j]()
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Millisecond)
		require.False(t, s.isUnmapped(), "a view is still out")
		v.Release()
		require.Eventually(t, s.isUnmapped, 10*time.Second, 100*time.Microsecond)
	}
}

func TestEveryCallOfAClosedStoreSaysSo(t *testing.T) {
	s := open(t, Options{})
	w, err := s.Reserve(10)
	require.NoError(t, err)
	require.NoError(t, s.Close(true))
	k := []byte("k")
	for name, call := range map[string]func() error{
		"get":   func() error { _, err := s.Get(k); return err },
		"put":   func() error { _, err := s.Put(k, nil, PutOptions{}); return err },
		"parts": func() error { _, err := s.PutParts(k, nil, PutOptions{}); return err },
		"tensor": func() error {
			_, err := s.PutTensor(k, tensor.Source{DType: bytesDType, Shape: []int64{0}}, PutOptions{})
			return err
		},
		"adopt": func() error {
			_, err := s.Adopt(k, tensor.Source{DType: bytesDType, Shape: []int64{0}}, PutOptions{})
			return err
		},
		"commit":        func() error { _, err := w.Commit(k, tensor.DType{}, nil, PutOptions{}); return err },
		"reserve":       func() error { _, err := s.Reserve(1); return err },
		"take":          func() error { _, err := s.Take(k); return err },
		"remove":        func() error { return s.Remove(k) },
		"clear":         func() error { _, err := s.Clear(); return err },
		"exists":        func() error { _, err := s.Exists(k); return err },
		"pin":           func() error { return s.Pin(k, true) },
		"describe":      func() error { _, err := s.Describe(k); return err },
		"list":          func() error { _, err := s.List(nil, 0, nil); return err },
		"stats":         func() error { _, err := s.Stats(); return err },
		"borrows":       func() error { return s.Borrows(nil) },
		"trim":          func() error { _, err := s.Trim(); return err },
		"import":        func() error { _, err := s.Import("x", nil, FileOptions{}); return err },
		"export":        func() error { return s.Export(t.TempDir()+"/x", [][]byte{k}, 0, FileOptions{}) },
		"set":           func() error { return s.PutSet(nil, PutOptions{}, nil) },
		"snapshot":      func() error { _, err := s.Snapshot(nil); return err },
		"prefix":        func() error { _, err := s.SnapshotPrefix(nil); return err },
		"wait":          func() error { return s.Wait([][]byte{k}, 0) },
		"export no key": func() error { return s.Export(t.TempDir()+"/x", nil, 0, FileOptions{}) },
	} {
		require.ErrorIs(t, call(), ErrClosed, name)
	}
	w.Abort()
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	for range 2 { // and after it is gone
		_, err := s.Get(k)
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, s.Export(t.TempDir()+"/x", nil, 0, FileOptions{}), ErrClosed)
		_, err = s.Adopt(k, tensor.Source{Base: 1, DType: bytesDType, Shape: []int64{1}}, PutOptions{})
		require.ErrorIs(t, err, ErrClosed)
	}
}

// A long copy stops when the store is being closed, and its extent is given back.
func TestCloseCancelsALongPut(t *testing.T) {
	started, closing := make(chan struct{}), make(chan struct{})
	h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool {
		close(started)
		for flag.Load() == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		close(closing)
		return false
	}, nil)
	s := openOnHost(t, h, Options{})
	kept := get(t, h.small(t, s), "small")
	failed := make(chan error)
	go func() {
		_, err := s.Put([]byte("big"), make([]byte, 100), PutOptions{})
		failed <- err
	}()
	<-started
	closed := make(chan error)
	go func() { closed <- s.Close(true) }()
	<-closing
	require.ErrorIs(t, <-failed, ErrCancelled)
	require.NoError(t, <-closed)
	require.EqualValues(t, 64, s.arena.Stats().Used, "only what is viewed is left")
	kept.Release()
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
}

// small stores an object without a copy, which the host above would not end.
func (h *Host) small(t *testing.T, s *Store) *Store {
	put(t, s, "small", nil)
	return s
}

// Whoever calls while the store closes gets an answer or ErrClosed, and nothing of it is lost.
func TestCloseUnderLoad(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	for range rounds {
		s := open(t, Options{Capacity: 8 << 20})
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Appendf(nil, "%d", i%20)
					var v View
					var err error
					switch (i + g) % 4 {
					case 0:
						_, err = s.Put(key, bytes.Repeat([]byte{byte(g)}, 5000), PutOptions{})
					case 1:
						err = s.Remove(key)
					case 2:
						v, err = s.Take(key)
					default:
						var w *WriteBuffer
						if w, err = s.Reserve(100); err == nil {
							copy(bytesAt(w.Addr(), 100), bytes.Repeat([]byte{byte(g)}, 100))
							_, err = w.Commit(key, tensor.DType{}, nil, PutOptions{})
							w.Abort()
						}
					}
					v.Release()
					if isClosed(err) {
						return
					}
					if v, err = s.Get(key); err == nil {
						if v.Size() > 0 && v.Bytes()[0] != v.Bytes()[v.Size()-1] {
							t.Error("torn")
						}
						v.Release()
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		won := make(chan error, 2)
		for range 2 {
			wg.Go(func() { won <- s.Close(true) })
		}
		wg.Wait()
		first, second := <-won, <-won
		require.True(t, (first == nil) != (second == nil), "%v %v", first, second)
		require.Eventually(t, s.isUnmapped, 10*time.Second, 100*time.Microsecond)
	}
}

func isClosed(err error) bool { return err != nil && strings.Contains(err.Error(), ErrClosed.Error()) }

// Ten thousand stores, one after another, leave nothing behind; fewer on a machine that needs more than eight seconds,
// unless MOORAGE_SOAK_MINUTES is set.
func TestOpenCloseIsFlat(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 300
	}
	base := index.Live()
	count := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return bytes.Count(maps, []byte("\n"))
	}
	cycle := func() {
		s, err := Open(Options{Capacity: 1 << 20})
		require.NoError(t, err)
		_, err = s.Put([]byte("k"), []byte("v"), PutOptions{})
		require.NoError(t, err)
		require.NoError(t, s.Close(false))
		for !s.isUnmapped() {
			time.Sleep(20 * time.Microsecond)
		}
	}
	for range 50 {
		cycle()
	}
	before := count()
	patience := 8 * time.Second
	if os.Getenv("MOORAGE_SOAK_MINUTES") != "" {
		patience = time.Hour
	}
	start, n := time.Now(), 0
	for ; n < rounds && time.Since(start) < patience; n++ {
		cycle()
	}
	t.Logf("%d cycles", n)
	require.Equal(t, base, index.Live())
	require.InDelta(t, before, count(), 40, "mappings")
}

// A forked child has mappings of its own: what it holds does not keep a closed store mapped.
func TestCloseWithChildren(t *testing.T) {
	h := forkHost()
	f := &forks{h: h}
	s := openOnHost(t, h, Options{})
	put(t, s, "a", make([]byte, 1000))
	put(t, s, "b", make([]byte, 1000))
	a, b := get(t, s, "a"), get(t, s, "b")
	slot := f.fork(func() {})
	a.Release()
	require.NoError(t, s.Remove([]byte("a")))
	require.EqualValues(t, 1024, stats(t, s).HeldBytes)
	_, err := s.Take([]byte("b"))
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, s.Close(true))
	require.False(t, s.isUnmapped())
	b.Release()
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	f.end(slot)
}

func TestHeldExtentsComeBackWhenTheChildEnds(t *testing.T) {
	h := forkHost()
	f := &forks{h: h}
	s := openOnHost(t, h, Options{Capacity: 64 << 10})
	put(t, s, "a", make([]byte, 64<<10))
	v := get(t, s, "a")
	first := f.fork(func() {})
	second := f.fork(func() {})
	v.Release()
	_, err := s.Take([]byte("a"))
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorContains(t, err, "forked child")
	require.NoError(t, s.Remove([]byte("a")))
	_, err = s.Put([]byte("b"), make([]byte, 64<<10), PutOptions{})
	var full *CapacityError
	require.ErrorAs(t, err, &full)
	require.EqualValues(t, 64<<10, full.Held)
	require.ErrorContains(t, err, "65536 held for forked children")
	f.end(first)
	_, err = s.Put([]byte("b"), make([]byte, 64<<10), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity, "the second child is alive")
	f.end(second)
	put(t, s, "b", make([]byte, 64<<10))
	require.NoError(t, s.Remove([]byte("b")))
	requireEmpty(t, s)
}
