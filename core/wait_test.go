package core

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

const ample = 20 * time.Second

// waiting begins to wait and gives the channel of the answer once the store knows of it.
func waiting(t testing.TB, s *Store, timeout time.Duration, names ...string) chan error {
	t.Helper()
	n := s.waits.n.Load()
	answer := make(chan error, 1)
	go func() { answer <- s.Wait(keysOf(names...), timeout) }()
	require.Eventually(t, func() bool { return s.waits.n.Load() > n }, ample, 100*time.Microsecond)
	return answer
}

func requireWaits(t testing.TB, answer chan error) {
	t.Helper()
	select {
	case err := <-answer:
		require.Fail(t, "it returned", "%v", err)
	case <-time.After(5 * time.Millisecond):
	}
}

// requireNobodyWaits says that no one is on the list.
func requireNobodyWaits(t testing.TB, s *Store) {
	t.Helper()
	s.waits.mu.Lock()
	defer s.waits.mu.Unlock()
	require.Zero(t, s.waits.n.Load())
	require.Empty(t, s.waits.all)
}

func TestWaitReturnsAtOnce(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", nil)
	put(t, s, "b", nil)
	for _, timeout := range []time.Duration{0, -1, ample} {
		require.NoError(t, s.Wait(nil, timeout))
		require.NoError(t, s.Wait(keysOf("a", "b", "a"), timeout))
	}
	requireNobodyWaits(t, s)
	require.Zero(t, stats(t, s).Gets, "to wait is no access")
}

func TestWaitTimesOut(t *testing.T) {
	s := open(t, Options{})
	put(t, s, "a", nil)
	for _, timeout := range []time.Duration{0, -1, time.Millisecond, 30 * time.Millisecond} {
		began := time.Now()
		err := s.Wait(keysOf("a", "none", "other"), timeout)
		require.ErrorIs(t, err, ErrTimeout)
		require.ErrorContains(t, err, `2 of 3 keys are missing, the first is "none"`)
		require.GreaterOrEqual(t, time.Since(began), timeout)
		requireNobodyWaits(t, s)
	}
}

// Every way to publish an object wakes.
func TestWaitIsWokenByEveryWay(t *testing.T) {
	s := open(t, Options{})
	for name, publish := range map[string]func(key string) error{
		"put": func(key string) error { _, err := s.Put([]byte(key), nil, PutOptions{}); return err },
		"put tensor": func(key string) error {
			_, err := s.PutTensor([]byte(key), tensor.Source{DType: bytesDType, Shape: []int64{0}}, PutOptions{})
			return err
		},
		"commit": func(key string) error {
			w, err := s.Reserve(10)
			if err == nil {
				_, err = w.Commit([]byte(key), tensor.DType{}, nil, PutOptions{})
			}
			return err
		},
		"adopt": func(key string) error {
			w, src := produced(t, s, 4096, 1)
			defer w.Abort()
			_, err := s.Adopt([]byte(key), src, PutOptions{})
			return err
		},
		"set": func(key string) error {
			return s.PutSet([]Item{item("beside "+key, nil), item(key, nil)}, PutOptions{}, nil)
		},
		"import": func(key string) error {
			_, err := s.Import(fileOf(t, 10, key, "beside "+key), nil, FileOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			put(t, s, "there", nil)
			answer := waiting(t, s, ample, "there", name)
			requireWaits(t, answer)
			require.NoError(t, publish(name))
			require.NoError(t, <-answer)
			requireNobodyWaits(t, s)
		})
	}
}

// All keys have to be there at one time: one that went again is waited for again.
func TestWaitWantsAllAtOneTime(t *testing.T) {
	s := open(t, Options{})
	answer := waiting(t, s, ample, "a", "b")
	put(t, s, "a", nil)
	require.NoError(t, s.Remove([]byte("a")))
	put(t, s, "b", nil) // wakes it, and it finds a gone
	requireWaits(t, answer)
	put(t, s, "a", nil)
	require.NoError(t, <-answer)
	answer = waiting(t, s, 20*time.Millisecond, "a", "c", "d")
	require.NoError(t, s.Remove([]byte("a")))
	put(t, s, "c", nil)
	put(t, s, "d", nil)
	err := <-answer
	require.ErrorIs(t, err, ErrTimeout)
	require.ErrorContains(t, err, `1 of 3 keys are missing, the first is "a"`)
	requireNobodyWaits(t, s)
}

// A set that is undone is no answer.
func TestWaitDoesNotSeeASetThatIsUndone(t *testing.T) {
	h := openHalfway(t, EvictNone)
	k := inShards(2)
	h.meanwhile = func() {}
	answer := waiting(t, h.Store, 50*time.Millisecond, k...)
	h.fails(t, PutOptions{}, k...)
	require.ErrorIs(t, <-answer, ErrTimeout)
}

func TestCloseWakesWhoWaits(t *testing.T) {
	s := open(t, Options{})
	var all []chan error
	for i := range 10 {
		all = append(all, waiting(t, s, time.Hour, fmt.Sprint(i)))
	}
	require.NoError(t, s.Close(true))
	for _, answer := range all {
		require.ErrorIs(t, <-answer, ErrCancelled)
	}
	require.ErrorIs(t, s.Wait(keysOf("a"), time.Hour), ErrClosed)
	requireNobodyWaits(t, s)
}

// Whoever begins to wait while the store closes is not forgotten.
func TestWaitWhileClosing(t *testing.T) {
	for range 200 {
		s := open(t, Options{Capacity: 1 << 20})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := s.Wait(keysOf("none"), time.Hour); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrCancelled) {
					t.Error(err)
				}
			})
		}
		require.NoError(t, s.Close(false))
		wg.Wait()
	}
}

// A name that comes between the look and the entry in the list is seen: nobody would wake for it.
func TestWaitLooksAgain(t *testing.T) {
	s := open(t, Options{})
	s.waits.mu.Lock() // it has looked, and cannot enter
	answer := make(chan error, 1)
	go func() { answer <- s.Wait(keysOf("a"), 2*time.Second) }()
	time.Sleep(20 * time.Millisecond)
	put(t, s, "a", nil)
	s.waits.mu.Unlock()
	require.NoError(t, <-answer)
}

// No wake-up is lost, whenever a name comes: in a set, alone, or put, removed and put again.
func TestNoWakeUpIsLost(t *testing.T) {
	s := open(t, Options{})
	rounds := 3000
	if testing.Short() {
		rounds = 600
	}
	var turn atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= rounds; i++ {
			for turn.Load() < int64(i) {
			}
			a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
			switch i % 3 {
			case 0:
				if err := s.PutSet([]Item{item(a, nil), item(b, nil)}, PutOptions{}, nil); err != nil {
					t.Error(err)
				}
			case 1:
				put(t, s, a, nil)
				put(t, s, b, nil)
			default:
				put(t, s, a, nil)
				_ = s.Remove([]byte(a))
				put(t, s, b, nil)
				put(t, s, a, nil)
			}
		}
	}()
	for i := 1; i <= rounds; i++ {
		turn.Store(int64(i))
		require.NoError(t, s.Wait(keysOf(fmt.Sprint("a", i), fmt.Sprint("b", i)), ample))
	}
	<-done
	requireNobodyWaits(t, s)
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

// Many wait for many names, some of them for the same; each is answered when its last one came, others time out.
func TestManyWait(t *testing.T) {
	s := open(t, Options{})
	const names, waiters = 50, 300
	answers := make([]chan error, waiters)
	for i := range answers {
		key := func(n int) string { return fmt.Sprint((i + n) % names) }
		answers[i] = waiting(t, s, ample, key(0), key(7), key(0))
	}
	late := waiting(t, s, 50*time.Millisecond, "0", "never")
	var wg sync.WaitGroup
	for g := range 5 {
		wg.Go(func() {
			for i := g; i < names; i += 5 {
				put(t, s, fmt.Sprint(i), nil)
			}
		})
	}
	wg.Wait()
	for _, answer := range answers {
		require.NoError(t, <-answer)
	}
	require.ErrorIs(t, <-late, ErrTimeout)
	requireNobodyWaits(t, s)
}

// A put that nobody waits for pays nothing for those who could.
func TestPublishingWithoutWaitersAllocatesNothing(t *testing.T) {
	s := open(t, Options{})
	key := []byte("k")
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.waits.published(key) }))
	answer := waiting(t, s, ample, "other")
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.waits.published(key) }), "nor for who waits for other names")
	put(t, s, "other", nil)
	require.NoError(t, <-answer)
}

// Who was let in before the store closed, and looked, and then enters: nobody would wake him any more.
func TestWaitAfterTheEndOfWaits(t *testing.T) {
	s := open(t, Options{})
	s.waits.end()
	x := s.waits.enter(keysOf("a"))
	select {
	case <-x.wake:
	default:
		require.Fail(t, "it would wait for ever")
	}
	s.waits.leave(x)
	requireNobodyWaits(t, s)
}
