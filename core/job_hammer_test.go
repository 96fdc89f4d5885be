package core

import (
	"errors"
	"math/rand/v2"
	"runtime"
)

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
