package core

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

// Of many puts of one key that must not be there one wins, whatever way they come.
func TestOneOfManyPutsWins(t *testing.T) {
	s := open(t, Options{})
	for _, how := range []IfExists{Raise, Keep} {
		for i := range 300 {
			key := fmt.Appendf(nil, "%d/%d", how, i)
			var wg sync.WaitGroup
			var won atomic.Int64
			start := make(chan struct{})
			for g := range 4 {
				wg.Go(func() {
					<-start
					var r PutResult
					var err error
					if g == 0 {
						w, e := s.Reserve(10)
						require.NoError(t, e)
						r, err = w.Commit(key, tensor.DType{}, nil, PutOptions{IfExists: how})
						w.Abort()
					} else {
						r, err = s.Put(key, []byte{byte(g)}, PutOptions{IfExists: how})
					}
					if err == nil && r.Outcome != Kept {
						won.Add(1)
					}
				})
			}
			close(start)
			wg.Wait()
			require.EqualValues(t, 1, won.Load())
		}
	}
}

// A reader finds the old object or the new one.
func TestReplacedKeyIsNeverMissing(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "k", []byte("0"))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				v, err := s.Get([]byte("k"))
				if err != nil {
					t.Error(err)
					return
				}
				v.Release()
			}
		})
	}
	for i := range 5000 {
		put(t, s, "k", fmt.Append(nil, i))
	}
	stop.Store(true)
	wg.Wait()
}

// A producer that goes on writing while its memory is committed is stopped before anybody can see the object.
func TestLateWritesNeverShow(t *testing.T) {
	s := open(t, Options{})
	for i := range 300 {
		w, err := s.Reserve(4096)
		require.NoError(t, err)
		stopped := make(chan struct{})
		started := make(chan struct{})
		mem := bytesAt(w.Addr(), 4096)
		go func() {
			defer close(stopped)
			defer func() { _ = recover() }()
			debug.SetPanicOnFault(true)
			for n := 0; ; n++ {
				for j := 0; j < len(mem); j += 64 {
					mem[j] = byte(n)
				}
				if n == 0 {
					close(started)
				}
				runtime.Gosched() // so that the reader gets a turn, also on two cores
			}
		}()
		<-started
		key := fmt.Appendf(nil, "%d", i%3)
		seen := make(chan []byte)
		go func() {
			for ; ; runtime.Gosched() {
				if v, err := s.Get(key); err == nil {
					if v.Size() == 4096 {
						a := bytes.Clone(v.Bytes())
						<-stopped
						if !bytes.Equal(a, v.Bytes()) {
							t.Error("the object changed after it was published")
						}
						v.Release()
						close(seen)
						return
					}
					v.Release()
				}
			}
		}()
		_, err = w.Commit(key, tensor.DType{}, nil, PutOptions{})
		require.NoError(t, err)
		<-seen
		w.Abort()
		require.NoError(t, s.Remove(key))
	}
	requireEmpty(t, s)
}
