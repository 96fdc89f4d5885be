package blockio

import (
	"context"
	"sync"
)

// maxCrew is how many threads read and write where there is no ring.
const maxCrew = 8

// crew is the threads that move chunks one by one, by system calls that block.
type crew struct {
	size   int
	chunks chan *errand
	trips  sync.Pool // of *trip

	mu      sync.Mutex
	workers int
}

// errand is a chunk on its way through the crew.
type errand struct {
	chunk
	trip   *trip
	failed error
	at     int64 // when it was over
}

// trip is an operation on its way, with room for the chunks in flight.
type trip struct {
	op      operation
	errands []errand
	free    []*errand
	next    *errand      // cut off, and not yet handed over
	landed  chan *errand // with room for all of them: the crew never waits for a trip
}

func (w *crew) open(depth int) {
	w.size = min(depth, maxCrew)
	w.chunks = make(chan *errand)
	w.trips.New = func() any {
		t := &trip{errands: make([]errand, w.size), landed: make(chan *errand, w.size)}
		for i := range t.errands {
			t.errands[i].trip = t
			t.free = append(t.free, &t.errands[i])
		}
		return t
	}
}

// end lets the threads go. Nothing is under way.
func (w *crew) end() { close(w.chunks) }

// do moves a request. A single chunk needs nobody else.
func (w *crew) do(ctx context.Context, e *Engine, r *Request, path Path, entered int64) (Times, error) {
	t := w.trips.Get().(*trip)
	op := &t.op
	op.begin(r, path, entered)
	op.began = now()
	if len(r.Pieces) == 1 && r.Pieces[0].Len <= e.options.ChunkBytes {
		w.alone(e, t)
	} else {
		w.together(ctx, e, t)
	}
	times, err := op.end(e)
	op.request = nil
	w.trips.Put(t)
	return times, err
}

func (w *crew) alone(e *Engine, t *trip) {
	a := t.free[0]
	a.chunk, _ = t.op.next(e)
	t.op.flying, t.op.times.Depth = 1, 1
	a.run(e)
	t.land(a)
}

// together hands chunks to the crew and takes in what they did, in one thread.
func (w *crew) together(ctx context.Context, e *Engine, t *trip) {
	for t.prepare(e) || t.op.flying > 0 {
		var hand chan *errand
		if t.next != nil {
			hand = w.chunks
			w.hire(e)
		}
		select {
		case hand <- t.next:
			t.op.flying++
			t.op.times.Depth = max(t.op.times.Depth, t.op.flying)
			t.next = nil
		case a := <-t.landed:
			t.land(a)
			t.free = append(t.free, a)
		case <-t.stop(ctx):
			t.op.cancel(context.Cause(ctx))
		}
	}
}

// prepare cuts off the next chunk, unless there is one or none can be handed over any more.
func (t *trip) prepare(e *Engine) bool {
	if t.next != nil && t.op.err != nil {
		t.free = append(t.free, t.next)
		t.next = nil
	}
	if t.next == nil && len(t.free) > 0 {
		if c, ok := t.op.next(e); ok {
			t.next, t.free = t.free[len(t.free)-1], t.free[:len(t.free)-1]
			t.next.chunk = c
		}
	}
	return t.next != nil
}

// stop is closed when a trip is to be given up; nil once it is.
func (t *trip) stop(ctx context.Context) <-chan struct{} {
	if t.op.err != nil {
		return nil
	}
	return ctx.Done()
}

func (t *trip) land(a *errand) {
	op := &t.op
	op.flying--
	if op.times.First == 0 || a.began < op.times.First {
		op.times.First = a.began
	}
	op.landed(&a.chunk, a.at)
	if a.failed != nil {
		op.fail(a.failed)
	} else if a.done == a.n && op.request.Chunk != nil {
		op.request.Chunk(a.piece, a.off, a.n)
	}
}

// hire starts one more thread, if there may be more.
func (w *crew) hire(e *Engine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.workers < w.size {
		w.workers++
		go w.work(e)
	}
}

func (w *crew) work(e *Engine) {
	for a := range w.chunks {
		a.run(e)
		a.trip.landed <- a
	}
}

// run moves a chunk, however many system calls that takes. It does not touch the operation, which others do.
func (a *errand) run(e *Engine) {
	a.failed = nil
	a.began = now()
	for {
		p := a.in()
		n, err := p.File.move(a.op.request.Write, p.Addr+uintptr(a.off+a.done), a.n-a.done, p.Off+int64(a.off+a.done))
		again, err := a.moved(e, n, err)
		if !again {
			a.failed, a.at = err, now()
			return
		}
	}
}
