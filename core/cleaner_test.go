package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tier/file/faulty"
	"moorage/core/tier/timing"
)

// cleaned wakes the cleaner and returns when it has done what there is to do. It takes the next wake when it is through with one,
// and there is room for one more.
func cleaned(t testing.TB, s *Store) {
	t.Helper()
	if s.tiered.cleaner.ended == nil {
		return
	}
	for range 3 {
		s.tiered.cleaner.wake <- struct{}{}
	}
}

// When memory runs short, what has to leave next is on disk before anybody needs its room, stays in memory, and no put waits for a write.
func TestWhatLeavesNextIsWrittenBefore(t *testing.T) {
	for _, e := range []Eviction{EvictNone, EvictS3FIFO} {
		dir, o := onLayer()
		o.Eviction = e
		var gate sync.Mutex
		o.Disk.FS = &watched{Dir: dir, write: func() { gate.Lock(); defer gate.Unlock() }}
		s := open(t, o)
		const size = 64 << 10
		room := int(s.Capacity() / size)
		i := 0
		next := func() {
			gate.Lock() // nothing is written
			put(t, s, fmt.Sprint("key ", i), pattern(uint64(i), size))
			gate.Unlock()
			cleaned(t, s)
			i++
		}
		for i < room*3/4 {
			next()
		}
		demotions := func() uint64 {
			st, err := s.DiskStats()
			require.NoError(t, err)
			return st.Demotions
		}
		require.Zero(t, demotions(), "there is memory")
		for i < room {
			next()
		}
		ahead := demotions()
		require.Positive(t, ahead)
		require.LessOrEqual(t, ahead*size, s.Capacity()/cleanShare+size, "and no more than that")
		for k := range i {
			require.True(t, inMemory(s, fmt.Sprint("key ", k)), "what is written stays")
		}
		for i < 3*room {
			before := lastSequence(s)
			next()
			for _, r := range recordsSince(t, s, before, timing.Demote) {
				require.Equal(t, timing.Background, r.Class)
			}
		}
		require.Positive(t, stats(t, s).Evictions)
		for k := range i {
			requirePattern(t, s, fmt.Sprint("key ", k), uint64(k), size)
		}
	}
}

// What is being written ahead can be taken, removed and replaced as if it were not, and nobody sees a borrower.
func TestTheCleanerIsNoBorrower(t *testing.T) {
	dir, o := onLayer()
	watch := &watched{Dir: dir}
	o.Disk.FS = watch
	s := open(t, o)
	const size = 64 << 10
	writing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	watch.write = func() { once.Do(func() { close(writing) }); <-goOn }
	n := int(s.Capacity()/size) - 2
	for i := range n {
		put(t, s, fmt.Sprint("key ", i), pattern(uint64(i), size))
	}
	awaitWrite(t, writing)
	beingWritten := ""
	for i := range n {
		key := fmt.Sprint("key ", i)
		d, err := s.Describe([]byte(key))
		require.NoError(t, err)
		if d.Views > 0 {
			beingWritten = key
			break
		}
	}
	require.NotEmpty(t, beingWritten)
	require.Zero(t, stats(t, s).BorrowedObjects)
	var taken atomic.Bool
	var taker sync.WaitGroup
	taker.Go(func() {
		v, err := s.Take([]byte(beingWritten))
		if assertNoError(t, err) {
			taken.Store(true)
			v.Release()
		}
	})
	time.Sleep(20 * time.Millisecond)
	require.False(t, taken.Load(), "it waits for the write")
	close(goOn)
	taker.Wait()
	require.True(t, taken.Load())
	_, err := s.Get([]byte(beingWritten))
	require.ErrorIs(t, err, ErrNotFound)
	v := get(t, s, "key 1")
	_, err = s.Take([]byte("key 1"))
	require.ErrorIs(t, err, ErrBusy, "a view of somebody's")
	v.Release()
}

// A disk that cannot be written to costs nothing but the room ahead: the cleaner does not try for ever, and goes on later.
func TestTheCleanerStopsAtErrors(t *testing.T) {
	dir, o := onLayer()
	s := open(t, o)
	const size = 64 << 10
	rule := dir.Inject(faulty.Rule{Op: faulty.Write, Name: "segment-*", Err: syscall.EIO})
	n := int(s.Capacity()/size) - 2
	for i := range n {
		put(t, s, fmt.Sprint("key ", i), pattern(uint64(i), size))
	}
	cleaned(t, s)
	last := 0
	require.Eventually(t, func() bool {
		before := last
		last = dir.Shown(rule)
		return last > 0 && last == before
	}, 10*time.Second, 100*time.Millisecond, "it waits until memory is taken again")
	dir.Heal()
	for i := range 3 {
		require.NoError(t, s.Remove(fmt.Append(nil, "key ", i)))
		put(t, s, fmt.Sprint("more ", i), pattern(0, size))
	}
	cleaned(t, s)
	st, err := s.DiskStats()
	require.NoError(t, err)
	require.Positive(t, st.Demotions)
}

// Many put, take and close while there is something to clean: nobody is refused for it, and nothing is left.
func TestCleanerHammer(t *testing.T) {
	for round := range 8 {
		s, err := Open(onDir(t.TempDir()))
		require.NoError(t, err)
		seeds := seeded(t)
		var stop atomic.Bool
		var workers sync.WaitGroup
		for w := range 3 {
			r := rand.New(rand.NewPCG(seeds.Uint64(), 0))
			workers.Go(func() {
				for i := uint64(0); !stop.Load(); i++ {
					key := fmt.Append(nil, "worker ", w, " key ", r.IntN(40))
					_, err := s.Put(key, pattern(i, 1+r.IntN(128<<10)), PutOptions{})
					if err == nil && r.IntN(2) == 0 {
						var v View
						if v, err = s.Take(key); err == nil {
							v.Release()
						}
					}
					if errors.Is(err, ErrClosed) || errors.Is(err, ErrCancelled) {
						return
					}
					assertNoError(t, err)
				}
			})
		}
		time.Sleep(60 * time.Millisecond)
		if round%2 == 0 {
			stop.Store(true)
			workers.Wait()
		}
		require.NoError(t, s.Close(false))
		stop.Store(true)
		workers.Wait()
		require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	}
}

// Who needs room when all that could go is being written waits for that.
func TestWhoNeedsWhatIsBeingWrittenWaits(t *testing.T) {
	dir, o := onLayer()
	writing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o.Disk.FS = &watched{Dir: dir, write: func() { once.Do(func() { close(writing) }); <-goOn }}
	s := open(t, o)
	big := int(s.Capacity()) - 256<<10
	put(t, s, "big", pattern(1, big))
	awaitWrite(t, writing)
	var stored atomic.Bool
	var putter sync.WaitGroup
	putter.Go(func() {
		_, err := s.Put([]byte("next"), pattern(2, 1<<20), PutOptions{})
		stored.Store(assertNoError(t, err))
	})
	time.Sleep(30 * time.Millisecond)
	require.False(t, stored.Load())
	close(goOn)
	putter.Wait()
	requirePattern(t, s, "next", 2, 1<<20)
	requirePattern(t, s, "big", 1, big)
}

// awaitWrite waits until the cleaner writes, which nobody has told it to.
func awaitWrite(t testing.TB, writing <-chan struct{}) {
	t.Helper()
	select {
	case <-writing:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is written ahead")
	}
}
