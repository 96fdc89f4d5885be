package core

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"moorage/core/tensor"
	"moorage/core/tier/timing"
)

// JobKind is what a job does with each of its keys.
type JobKind uint8

const (
	// JobGet borrows objects; the job holds the views until they are taken from it.
	JobGet JobKind = iota + 1
	// JobGetInto copies objects into memory of the caller's, which stays the job's until it is acknowledged.
	JobGetInto
	// JobPut stores copies. The sources stay as they are until their keys are finished.
	JobPut
	// JobPrefetch brings objects into memory and holds nothing: they may be evicted again.
	JobPrefetch
	// JobExists asks for all keys at one moment, as a batch read does.
	JobExists
	// JobRemove takes names away.
	JobRemove
	// JobPersist has objects written to where they survive the process.
	JobPersist
)

// JobRequest is what is to be done. All of it but the memory that Parts, Tensor and Spans lead to is copied.
type JobRequest struct {
	Kind   JobKind
	Tag    uint64     // the caller's
	Keys   [][]byte   // of every kind but JobPut
	Into   []Into     // of JobGetInto, one a key
	Items  []Item     // of JobPut
	Put    PutOptions // of JobPut
	Atomic bool       // of JobPut: as PutSet
}

// Result is what became of one key.
type Result struct {
	Err   error
	Value uint64 // get: bytes of the object; get into: bytes copied; exists: 1 or 0
	Put   PutResult
	Wait  time.Duration // from Submit until it was begun, or cancelled: also the wait for a turn in the key's record of Timings
	Run   time.Duration
}

// Job is work on keys of a store that goes on while nobody waits for it. It is acknowledged when each key has a result:
// from then on nothing of it touches the caller's memory. End it with Close. Safe for concurrent use.
type Job struct {
	s         *Store
	q         *Queue
	request   JobRequest    // dropped when all is done; read by who has taken keys
	submitted int64         // as timing.Now counts
	done      chan struct{} // closed by the acknowledgement
	id        uint64

	added bool // guarded by jobs.mu, like next
	next  int  // first key that nobody has taken; none before it is added

	mu     sync.Mutex
	keys   []keyResult // a finished one does not change, but for its view
	left   int
	closed bool
}

type keyResult struct {
	Result
	view     View
	finished bool
}

// NewJob checks and copies a request. Nothing is done before Submit. q hears of each key that is finished.
func (s *Store) NewJob(q *Queue, r JobRequest) (*Job, error) {
	const op = "submit"
	if s.closed.Load() != 0 {
		return nil, fail(op, ErrClosed)
	}
	if q.isClosed() {
		return nil, failf(op, ErrInvalid, "the queue is closed")
	}
	n, err := r.check(op)
	if err != nil {
		return nil, err
	}
	if most := s.jobs.limits.Keys; n > most {
		return nil, failf(op, ErrInvalid, "%d keys in one job; a store takes %d at a time", n, most)
	}
	return &Job{
		s: s, q: q, request: r.clone(), done: make(chan struct{}), next: n, keys: make([]keyResult, n), left: n,
	}, nil
}

// Submit makes a job and has it worked on.
func (s *Store) Submit(q *Queue, r JobRequest) (*Job, error) {
	j, err := s.NewJob(q, r)
	if err != nil {
		return nil, err
	}
	return j, j.Submit()
}

// Submit has the job worked on, and never waits. Once for a job; ErrTooMany when too many keys are unfinished, after which
// it may be tried again.
func (j *Job) Submit() error {
	if err := j.s.jobs.add(j); err != nil {
		return err
	}
	if len(j.keys) == 0 {
		j.q.push(finished{j, -1, true})
		close(j.done)
	}
	return nil
}

// check says how many keys there are.
func (r *JobRequest) check(op string) (n int, err error) {
	n = len(r.Keys)
	switch {
	case r.Kind < JobGet || r.Kind > JobPersist:
		return 0, failf(op, ErrInvalid, "kind %d", r.Kind)
	case r.Kind == JobPut:
		n = len(r.Items)
	case r.Kind == JobGetInto && len(r.Into) != n:
		return 0, failf(op, ErrInvalid, "%d destinations for %d keys", len(r.Into), n)
	}
	return n, nil
}

func (r JobRequest) clone() JobRequest {
	r.Keys = pack(r.Keys)
	r.Put.Meta = bytes.Clone(r.Put.Meta)
	if r.Kind == JobGetInto {
		spans := make([][]Span, len(r.Into))
		for i := range spans {
			spans[i] = r.Into[i].Spans
		}
		into := append([]Into(nil), r.Into...)
		for i, own := range pack(spans) {
			into[i].Spans = own
		}
		r.Into = into
	}
	if r.Kind == JobPut {
		r.Items = cloneItems(r.Items)
	}
	return r
}

func cloneItems(items []Item) []Item {
	keys, parts, dims := make([][]byte, len(items)), make([][]Part, len(items)), make([][]int64, 2*len(items))
	sources := make([]tensor.Source, len(items))
	for i, x := range items {
		keys[i], parts[i] = x.Key, x.Parts
		if x.Tensor != nil {
			sources[i] = *x.Tensor
			dims[2*i], dims[2*i+1] = x.Tensor.Shape, x.Tensor.Strides
		}
	}
	keys, parts, dims = pack(keys), pack(parts), pack(dims)
	own := make([]Item, len(items))
	for i := range own {
		own[i] = Item{Key: keys[i], Parts: parts[i]}
		if items[i].Tensor != nil {
			sources[i].Shape, sources[i].Strides = dims[2*i], dims[2*i+1]
			own[i].Tensor = &sources[i]
		}
	}
	return own
}

// pack copies slices into one piece of memory. What was nil stays nil.
func pack[T any](all [][]T) [][]T {
	total := 0
	for _, one := range all {
		total += len(one)
	}
	memory, own := make([]T, 0, total), make([][]T, len(all))
	for i, one := range all {
		if one != nil {
			start := len(memory)
			memory = append(memory, one...)
			own[i] = memory[start:len(memory):len(memory)]
		}
	}
	return own
}

// Len is how many keys the job has.
func (j *Job) Len() int { return len(j.keys) }

// Tag is that of the request.
func (j *Job) Tag() uint64 { return j.request.Tag }

// Name gives the job a number, which ID returns. Before Submit.
func (j *Job) Name(id uint64) { j.id = id }

// ID is the number that Name gave.
func (j *Job) ID() uint64 { return j.id }

// Done is closed by the acknowledgement: every key has a result.
func (j *Job) Done() <-chan struct{} { return j.done }

// Result is what became of key i; false while it is not finished.
func (j *Job) Result(i int) (Result, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.keys[i]
	return k.Result, k.finished
}

// View hands the view of key i over: it is the caller's to release. ErrInvalid when there is none: it was taken before,
// the key is not finished, or the job is no get. For a key that failed, its error.
func (j *Job) View(i int) (View, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.keys[i]
	if k.Err != nil {
		return View{}, k.Err
	}
	v := k.view
	if v.c == nil {
		return View{}, failf("take view", ErrInvalid, "key %d of the job has none: not finished, taken before, or the job is no get", i)
	}
	k.view = View{}
	return v, nil
}

// Cancel ends the keys that nobody works on yet, with ErrCancelled. The others finish: wait for the acknowledgement.
func (j *Job) Cancel() { j.cancel(errJobCancelled) }

func (j *Job) cancel(why error) {
	if from := j.s.jobs.withdraw(j); from < len(j.keys) {
		j.refuse(from, why)
	}
}

// refuse ends the keys from one on. They are the caller's: nobody else takes them.
func (j *Job) refuse(from int, why error) {
	wait := time.Duration(timing.Now() - j.submitted)
	for i := from; i < len(j.keys); i++ {
		j.recordRefused()
		j.finish(i, Result{Err: why, Wait: wait}, View{})
	}
}

// Close lets go of what nobody took. Keys of a get that were not begun are cancelled, nobody could take what they give;
// everything else goes on, and the queue hears of it. Idempotent.
func (j *Job) Close() {
	if j.request.Kind == JobGet {
		j.Cancel()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for i := range j.keys {
		j.keys[i].view.Release()
	}
}

// finish gives a key its result, the last of them the acknowledgement.
func (j *Job) finish(i int, r Result, v View) {
	j.s.jobs.unfinished.Add(-1)
	j.mu.Lock()
	defer j.mu.Unlock()
	k := &j.keys[i]
	k.Result, k.finished = r, true
	if j.closed {
		v.Release()
	} else {
		k.view = v
	}
	j.left--
	j.q.push(finished{j, int32(i), j.left == 0}) // under mu, so that the last is the last
	if j.left == 0 {
		j.request.Keys, j.request.Into, j.request.Items, j.request.Put.Meta = nil, nil, nil, nil
		close(j.done)
	}
}

// errJobCancelled is an ErrCancelled that does not blame the store.
var errJobCancelled error = jobCancelled{}

type jobCancelled struct{}

func (jobCancelled) Error() string { return "the job was cancelled before this key was begun" }

// Is makes it an ErrCancelled.
func (jobCancelled) Is(target error) bool { return target == ErrCancelled }

// inJob is an error of an operation as a job has it: the store was open when it was submitted.
func inJob(err error) error {
	if errors.Is(err, ErrClosed) {
		return ErrCancelled
	}
	return err
}
