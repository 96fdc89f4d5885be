package timing

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

// Trace writes every record as a line of JSON, behind the operations' back. An operation never waits for the writer:
// what finds the queue full is dropped and counted. Lines are nearly in the order of their numbers.
//
// The first line says what the others mean; the last one, which Close writes, how many were written and dropped. After an
// error of the writer nothing more is written, and everything counts as dropped.
type Trace struct {
	queue   chan Record
	written atomic.Uint64
	dropped atomic.Uint64
	done    chan struct{}
	failed  atomic.Pointer[error]

	mu     sync.RWMutex
	closed bool // no more is sent to queue
}

// TraceStats are its figures. Failed is the writer's error.
type TraceStats struct {
	Written, Dropped uint64
	Failed           error
}

const traceQueue = 4096

// NewTrace writes to w, from one goroutine; w stays the caller's.
func NewTrace(w io.Writer) *Trace {
	t := &Trace{queue: make(chan Record, traceQueue), done: make(chan struct{})}
	go t.run(w)
	return t
}

// Stats can be asked for at any time.
func (t *Trace) Stats() TraceStats {
	v := TraceStats{Written: t.written.Load(), Dropped: t.dropped.Load()}
	if failed := t.failed.Load(); failed != nil {
		v.Failed = *failed
	}
	return v
}

// Close waits until what is queued is written, or the context ends: then a writer that hangs is left behind with its
// goroutine. It gives the writer's error, or the context's. Records that are added later are dropped and counted.
func (t *Trace) Close(ctx context.Context) error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.queue)
	}
	t.mu.Unlock()
	select {
	case <-t.done:
		return t.Stats().Failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// offer never waits: Close holds the lock only to set the flag.
func (t *Trace) offer(r *Record) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.closed {
		select {
		case t.queue <- *r:
			return
		default:
		}
	}
	t.dropped.Add(1)
}

func (t *Trace) run(w io.Writer) {
	defer close(t.done)
	line := t.write(w, appendHeader(nil))
	for r := range t.queue {
		if t.failed.Load() != nil {
			t.dropped.Add(1)
			continue
		}
		// Counted first, so that the figures are right once the line is there to be read.
		t.written.Add(1)
		if line = t.write(w, appendRecord(line[:0], &r)); t.failed.Load() != nil {
			t.written.Add(^uint64(0))
			t.dropped.Add(1)
		}
	}
	if t.failed.Load() == nil {
		t.write(w, appendTrailer(line[:0], t.Stats()))
	}
}

func (t *Trace) write(w io.Writer, line []byte) []byte {
	n, err := w.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		t.failed.Store(&err)
	}
	return line
}
