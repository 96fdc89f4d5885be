package core

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"moorage/core/arena/cell"
)

// Queue collects the keys of jobs that are finished, of any number of jobs and stores, until they are drained. Its
// descriptor is an eventfd that is readable while there is something to drain. Safe for concurrent use.
type Queue struct {
	fd int32

	mu     sync.Mutex
	closed bool
	done   []finished
	head   int // done[:head] has been drained
}

// finished is a key whose result lies in its job.
type finished struct {
	job   *Job
	index int32 // -1: the job has no keys
	last  bool
}

// Completion is one key of a job that is finished. Last: it is the job's last one, and nothing of the job touches the
// caller's memory any more. A job without keys has one completion, with Index -1.
type Completion struct {
	Job   *Job
	Index int
	Last  bool
	Result
}

// NewQueue makes a queue and its eventfd.
func NewQueue() (*Queue, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, failf("open queue", ErrSystem, "eventfd: %w", err)
	}
	return &Queue{fd: int32(fd)}, nil
}

// FD is the eventfd. It stays the queue's: poll it, and leave reading to Drain.
func (q *Queue) FD() int { return int(q.fd) }

// push adds a finished key. Only the first one signals: as long as there is something, the descriptor is readable.
func (q *Queue) push(f finished) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.done = append(q.done, f)
	if len(q.done)-q.head == 1 {
		cell.Signal(q.fd)
	}
}

// Drain takes finished keys out, at most as many as there is room for, the first to finish first, and says how many. It
// does not wait. What was got and is not taken from its job (Job.View) stays there until Job.Close.
func (q *Queue) Drain(out []Completion) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n < len(out) && q.head < len(q.done) {
		f := q.done[q.head]
		q.done[q.head] = finished{}
		q.head++
		out[n] = Completion{Job: f.job, Index: int(f.index), Last: f.last}
		if f.index >= 0 {
			out[n].Result = f.job.keys[f.index].Result // it was written before the push
		}
		n++
	}
	if q.head < len(q.done) {
		q.compact()
		cell.Signal(q.fd) // who drains may have read the descriptor himself
		return n
	}
	q.done, q.head = q.done[:0], 0
	if cap(q.done) > keepDrained {
		q.done = nil
	}
	q.calm()
	return n
}

// keepDrained is how much room an empty queue keeps.
const keepDrained = 4096

// compact gives the room in front back, when it is more than half.
func (q *Queue) compact() {
	if q.head <= len(q.done)/2 {
		return
	}
	n := copy(q.done, q.done[q.head:])
	clear(q.done[n:])
	q.done, q.head = q.done[:n], 0
}

// calm makes the descriptor unreadable, if it still is ours: somebody may have closed it, and its number reused.
func (q *Queue) calm() {
	if q.closed || !cell.Nameless(q.fd) {
		return
	}
	var counter [8]byte
	_, _ = unix.Read(int(q.fd), counter[:])
}

// Close ends the queue and its descriptor. Jobs go on, and nobody hears of them here: ask them (Job.Wait). ErrInvalid when
// it was closed before.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return failf("close queue", ErrInvalid, "the queue is closed")
	}
	q.closed = true
	q.done, q.head = nil, 0
	if !cell.Nameless(q.fd) {
		return nil // closed by somebody, and not to be closed for whoever has the number now
	}
	if err := unix.Close(int(q.fd)); err != nil {
		return fmt.Errorf("%w: close: %w", ErrSystem, err)
	}
	return nil
}

func (q *Queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}
