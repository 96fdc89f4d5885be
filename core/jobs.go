package core

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"moorage/core/tier/timing"
)

// jobs are those of a store that have keys nobody has taken yet. A few goroutines take keys one at a time, of each job
// in turn, so that one of many keys does not hold up the others; without work there is no goroutine.
type jobs struct {
	limits     JobOptions
	unfinished atomic.Int64 // keys

	mu      sync.Mutex
	closed  bool
	list    []*Job
	workers int
}

// add takes a job up. It never waits.
func (t *jobs) add(j *Job) error {
	const op = "submit"
	now := timing.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int64(len(j.keys))
	if t.closed {
		return fail(op, ErrClosed)
	}
	if j.added {
		return failf(op, ErrInvalid, "the job was submitted before")
	}
	if there := t.unfinished.Load(); there+n > int64(t.limits.Keys) {
		return failf(op, ErrTooMany, "%d keys are unfinished, and a store takes %d at a time; submit again when some are finished",
			there, t.limits.Keys)
	}
	j.added, j.next, j.submitted = true, 0, now
	if n == 0 {
		return nil
	}
	t.unfinished.Add(n)
	t.list = append(t.list, j)
	if j.isOneStep() {
		n = 1
	}
	for range min(n, int64(t.limits.Workers-t.workers)) {
		t.workers++
		go j.s.work()
	}
	return nil
}

// isOneStep reports whether all keys are done together.
func (j *Job) isOneStep() bool {
	return j.request.Kind == JobExists || j.request.Kind == JobPut && j.request.Atomic
}

// take gives the keys to work on next. nil: there are none, and the caller is no worker any more.
func (t *jobs) take() (j *Job, from, to int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.list) > 0 {
		j = t.list[0]
		t.list[0] = nil
		t.list = t.list[1:]
		if from = j.next; from == len(j.keys) {
			continue // cancelled
		}
		to = from + 1
		if j.isOneStep() {
			to = len(j.keys)
		}
		if j.next = to; to < len(j.keys) {
			t.list = append(t.list, j)
		}
		return j, from, to
	}
	t.list = nil
	t.workers--
	return nil, 0, 0
}

// withdraw takes the keys away that nobody has taken, and says from which on.
func (t *jobs) withdraw(j *Job) (from int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, j.next = j.next, len(j.keys)
	return from
}

// end is part of closing: what was not begun is cancelled.
func (t *jobs) end() {
	t.mu.Lock()
	t.closed = true
	all := t.list
	t.list = nil
	t.mu.Unlock()
	for _, j := range all {
		j.cancel(ErrCancelled)
	}
}

// work is a worker.
func (s *Store) work() {
	for {
		j, from, to := s.jobs.take()
		if j == nil {
			return
		}
		start := timing.Now()
		wait := time.Duration(start - j.submitted)
		if to-from == 1 && !j.isOneStep() {
			r, v := j.one(from)
			r.Wait, r.Run = wait, time.Duration(timing.Now()-start)
			j.finish(from, r, v)
			continue
		}
		results := j.all()
		run := time.Duration(timing.Now() - start)
		for i, r := range results {
			r.Wait, r.Run = wait, run
			j.finish(i, r, View{})
		}
	}
}

// caught turns a panic in an operation, a bug, into the error of its keys.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// one does the work for one key.
func (j *Job) one(i int) (r Result, v View) {
	defer func() { r.Err = inJob(r.Err) }()
	defer caught(&r.Err)
	s, q, since := j.s, &j.request, j.submitted
	switch q.Kind {
	case JobGet:
		if v, r.Err = s.getQueued(timing.Get, q.Keys[i], false, since); r.Err == nil {
			r.Value = v.Size()
		}
	case JobGetInto:
		r.Value, r.Err = s.getInto(q.Keys[i], q.Into[i], since)
	case JobPut:
		o := q.Put
		o.since = since
		if x := &q.Items[i]; x.Tensor != nil {
			r.Put, r.Err = s.PutTensor(x.Key, *x.Tensor, o)
		} else {
			r.Put, r.Err = s.PutParts(x.Key, x.Parts, o)
		}
	case JobPrefetch:
		r.Err = s.prefetch(q.Keys[i], since)
	case JobRemove:
		r.Err = s.remove(q.Keys[i], since)
	case JobPersist:
		r.Err = s.persistOne(q.Keys[i], since)
	}
	return r, v
}

// all does the work for all keys in one step.
func (j *Job) all() []Result {
	results := make([]Result, len(j.keys))
	var err error
	if j.request.Kind == JobExists {
		err = j.exists(results)
	} else {
		err = j.putSet(results)
	}
	if err = inJob(err); err != nil {
		for i := range results {
			results[i] = Result{Err: err}
		}
	}
	return results
}

func (j *Job) exists(results []Result) (err error) {
	defer caught(&err)
	j.s.BetweenSets(func() {
		for i, key := range j.request.Keys {
			var there bool
			if there, err = j.s.exists(key, j.submitted); err != nil {
				return
			}
			if there {
				results[i].Value = 1
			}
		}
	})
	return err
}

func (j *Job) putSet(results []Result) (err error) {
	defer caught(&err)
	put := make([]PutResult, len(results))
	o := j.request.Put
	o.since = j.submitted
	if err := j.s.PutSet(j.request.Items, o, put); err != nil {
		return err
	}
	for i := range put {
		results[i].Put = put[i]
	}
	return nil
}

// Prefetch brings an object into memory, under its name whatever the store's option says, without holding it there.
// ErrNotFound when there is none.
func (s *Store) Prefetch(key []byte) error { return s.prefetch(key, 0) }

func (s *Store) prefetch(key []byte, since int64) error {
	v, err := s.getQueued(timing.Prefetch, key, true, since)
	v.Release()
	return err
}
