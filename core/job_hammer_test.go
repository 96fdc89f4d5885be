package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Submit, cancel, close, take and drain from several sides at random moments. No byte of a source or destination is
// touched after the acknowledgement, which is made sure of by writing to them then: the race detector and the stamps see it.
func TestJobHammer(t *testing.T) {
	r := seeded(t)
	for round := range 6 {
		s, err := OpenOn(forkHost(), nil, Options{Capacity: 4 << 20, Eviction: EvictS3FIFO, Jobs: JobOptions{Workers: 1 + r.IntN(6), Keys: 256}})
		require.NoError(t, err)
		h := &jobHammer{s: s, q: openQueue(t), closing: round%2 == 0}
		h.run(t, r.Uint64())
		if !h.closing {
			require.NoError(t, s.Close(true))
		}
		require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond, "something is still held")
		require.Zero(t, s.jobs.unfinished.Load())
	}
	runtime.GC()
}

type jobHammer struct {
	s        *Store
	q        *Queue
	closing  bool
	failed   atomic.Pointer[error]
	accepted atomic.Int64 // keys of jobs
	drained  atomic.Int64
}

func (h *jobHammer) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	h.failed.CompareAndSwap(nil, &err)
}

func (h *jobHammer) run(t *testing.T, seed uint64) {
	var wg, drain sync.WaitGroup
	stop := make(chan struct{})
	drain.Go(func() { h.drain(stop) })
	for i := range 4 {
		w := &jobWorker{jobHammer: h, r: newRand(seed + uint64(i))}
		wg.Go(func() {
			for range 400 {
				if !w.step() {
					return
				}
			}
		})
	}
	if h.closing {
		time.Sleep(time.Duration(seed%20) * time.Millisecond)
		require.NoError(t, h.s.Close(false))
	}
	wg.Wait()
	close(stop)
	drain.Wait()
	if err := h.failed.Load(); err != nil {
		t.Fatal(*err)
	}
	require.Equal(t, h.accepted.Load(), h.drained.Load(), "a result for every key")
	t.Logf("%d keys", h.accepted.Load())
}

// drain is the one side that looks at the queue only.
func (h *jobHammer) drain(stop chan struct{}) {
	out := make([]Completion, 7)
	for last := false; ; {
		n := h.q.Drain(out)
		h.drained.Add(int64(n))
		for _, c := range out[:n] {
			if _, finished := c.Job.Result(c.Index); !finished {
				h.fail("drained, and not finished")
			}
		}
		if n > 0 {
			continue
		}
		if last {
			return
		}
		select {
		case <-stop:
			last = true // every job is acknowledged
		case <-time.After(50 * time.Microsecond):
		}
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// heapSpan is memory that its owner keeps and that does not move: its size is not known to the compiler.
func heapSpan(b []byte) Span { return Span{addressOf(b), uint64(len(b))} }

// jobWorker submits jobs of a few keys and ends them in every way there is.
type jobWorker struct {
	*jobHammer
	r *rand.Rand
}

// step makes one job and sees it to its end. False: the store is closed.
func (w *jobWorker) step() bool {
	n := 1 + w.r.IntN(6)
	kind := JobKind(1 + w.r.IntN(int(JobRemove)))
	r := JobRequest{Kind: kind, Atomic: w.r.IntN(4) == 0}
	memory := make([][]byte, n)
	keys := w.r.Perm(8)
	for i := range memory {
		key := hammerKey(keys[i])
		size := 16 + w.r.IntN(3000)
		if w.r.IntN(8) == 0 {
			size += 40 << 10
		}
		memory[i] = make([]byte, size)
		stamp(memory[i], byte(keys[i]), w.r.Uint64()>>8)
		r.Keys = append(r.Keys, key)
		r.Into = append(r.Into, Into{Bytes: 16, Spans: []Span{heapSpan(memory[i])}})
		r.Items = append(r.Items, Item{Key: key, Parts: []Part{Part(heapSpan(memory[i]))}})
	}
	j, err := w.s.Submit(w.q, r)
	switch {
	case errors.Is(err, ErrClosed):
		return false
	case errors.Is(err, ErrTooMany):
		runtime.Gosched()
		return true
	case err != nil:
		w.fail("submit: %w", err)
		return false
	}
	w.accepted.Add(int64(n))
	for range w.r.IntN(3) {
		runtime.Gosched()
	}
	switch w.r.IntN(4) {
	case 0:
		j.Cancel()
	case 1:
		j.Close()
	}
	<-j.Done()
	for i := range memory {
		w.look(j, i, keys[i])
	}
	j.Close()
	for i := range memory {
		clear(memory[i]) // ours again: the race detector knows of nobody else
	}
	return true
}

func (w *jobWorker) look(j *Job, i, key int) {
	r, finished := j.Result(i)
	if !finished {
		w.fail("acknowledged, and not finished")
	}
	for _, allowed := range []error{ErrNotFound, ErrCancelled, ErrCapacity} {
		if errors.Is(r.Err, allowed) {
			return
		}
	}
	if r.Err != nil {
		w.fail("key %d: %w", key, r.Err)
		return
	}
	if w.r.IntN(2) == 0 {
		return // the job's to give back
	}
	v, err := j.View(i)
	if err != nil {
		return // no get, or closed
	}
	if _, err := checkStamp(v.Bytes(), byte(key)); err != nil {
		w.fail("view: %w", err)
	}
	v.Release()
}
