package blockio

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Far more requests than fit into the ring, of all sizes, some of which fail: each is told once, with its own bytes.
func TestGoMany(t *testing.T) {
	needRings(t)
	e := open(t, Options{ChunkBytes: 8192, Depth: 4})
	content := make([]byte, 4<<20)
	pattern(content, 31)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	const many = 2000
	b := memory(t, 16*65536)
	told := make([]atomic.Int32, many)
	var group sync.WaitGroup
	var failed atomic.Int64
	slots := make(chan int, 16)
	for i := range 16 {
		slots <- i
	}
	for i := range many {
		slot := <-slots
		n := (1 + i%16) * 4096
		off := int64(i*7919%1000) * 4096
		if i%50 == 0 {
			off = int64(len(content)) - 4096
			n = 65536
		}
		mine := b[slot*65536:][:n]
		group.Add(1)
		e.Go(&Request{Pieces: []Piece{{addressOf(mine), s, off, n, nil}}}, func(times Times, err error) {
			if told[i].Add(1); i%50 == 0 {
				failed.Add(1)
				if err == nil {
					panic("beyond the end")
				}
			} else if err != nil || string(mine) != string(content[off:][:n]) || times.Bytes != int64(n) {
				panic("other bytes")
			}
			slots <- slot
			group.Done()
		})
	}
	group.Wait()
	for i := range told {
		require.Equal(t, int32(1), told[i].Load())
	}
	require.Equal(t, int64(many/50), failed.Load())
}

// One processor at least is always left to other goroutines.
func TestBlockUnseen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	e := open(t, Options{MaxPath: Layer})
	require.True(t, e.blockUnseen())
	require.True(t, e.blockUnseen())
	require.False(t, e.blockUnseen())
	e.unseen.Add(-1)
	require.True(t, e.blockUnseen())
	runtime.GOMAXPROCS(1)
	e.unseen.Store(0)
	require.False(t, e.blockUnseen())
}
