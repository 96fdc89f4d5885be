package blockio

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"moorage/core/tier/uring"
)

// Engine does block I/O.
type Engine struct {
	options Options
	rings   []*uring.Ring // of the lanes, then the courier's; none below Uring
	idle    chan *lane
	courier *courier
	crew    crew
	table   table
	files   places
	count   counters
	unseen  atomic.Int32 // threads of Do whose waits Go's scheduler is not told of
	logged  sync.Map     // kinds of messages

	// life is held shared by whatever is in flight, until it has ended. Close takes it for good; from its attempt on nothing
	// gets in.
	life    sync.RWMutex
	closing chan struct{} // Close was called
	ended   chan struct{} // and is done
	close   sync.Once
	failed  error // of Close

	bend func(off int64, n int, result int32) int32 // tests change the results of the kernel
}

// Open makes an engine.
func Open(o Options) (*Engine, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	e := &Engine{options: o, closing: make(chan struct{}), ended: make(chan struct{})}
	e.table.part = partSize
	e.crew.open(o.Depth)
	if o.MaxPath <= Uring {
		if err := e.openRings(); err != nil {
			e.without("io_uring", fmt.Sprintf("no io_uring, reading with pread: %v", err))
			_ = e.dropRings()
			e.rings, e.idle, e.courier = nil, nil, nil
		}
	}
	return e, nil
}

// openRings makes a ring for each lane and one for the courier, with their tables.
func (e *Engine) openRings() error {
	o := e.options
	for i := range o.Rings + 1 {
		flights := o.Depth
		if i == o.Rings {
			flights = min(4*o.Depth, maxDepth)
		}
		r, err := uring.New(uring.Options{Entries: uint32(flights) + 2}) // and for waking, and cancelling
		if err != nil {
			return err
		}
		e.rings = append(e.rings, r)
	}
	e.table.places.make(o.Buffers)
	e.files.make(o.Files)
	if err := e.eachRing(func(r *uring.Ring) error { return r.MakeFiles(o.Files) }); err != nil {
		e.without("files", fmt.Sprintf("descriptors are not registered with io_uring: %v", err))
		e.files.make(0)
	}
	if o.MaxPath > UringFixed {
		e.table.places.make(0)
	} else if err := e.eachRing(func(r *uring.Ring) error { return r.MakeBuffers(o.Buffers) }); err != nil {
		e.without("buffers", fmt.Sprintf("memory is not registered with io_uring: %v", err))
		e.table.places.make(0)
	}
	e.idle = make(chan *lane, o.Rings)
	for _, r := range e.rings[:o.Rings] {
		e.idle <- newLane(e, r, o.Depth)
	}
	var err error
	e.courier, err = newCourier(e, e.rings[o.Rings], min(4*o.Depth, maxDepth))
	return err
}

func (e *Engine) eachRing(do func(*uring.Ring) error) error {
	for _, r := range e.rings {
		if err := do(r); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) dropRings() (err error) {
	for _, r := range e.rings {
		err = errors.Join(err, r.Close())
	}
	return err
}

// without counts a step down, and logs the first of its kind.
func (e *Engine) without(kind, text string) {
	e.count.fallbacks.Add(1)
	if _, before := e.logged.LoadOrStore(kind, nil); !before {
		e.options.Log(text)
	}
}

// Name is how people know the engine as a device that memory is registered with.
func (e *Engine) Name() string { return "block I/O" }

// Align is what addresses, offsets and lengths of direct I/O are multiples of.
func (e *Engine) Align() int { return e.options.Align }

// Do moves what a request says, and returns when no chunk of it is in flight any more. The calling thread submits and
// reaps. When ctx ends before, what is in flight is cancelled or waited for.
func (e *Engine) Do(ctx context.Context, r *Request) (Times, error) {
	entered := now()
	if !e.life.TryRLock() {
		return Times{}, fail("do", ErrClosed)
	}
	defer e.life.RUnlock()
	path, err := e.hold(r)
	if err != nil {
		return Times{}, err
	}
	defer release(r)
	if err := ctx.Err(); err != nil {
		return Times{Path: path}, fail(r.verb(), context.Cause(ctx))
	}
	if path > Uring {
		return e.crew.do(ctx, e, r, path, entered)
	}
	l, err := e.lane(ctx)
	if err != nil {
		return Times{Path: path}, fail(r.verb(), err)
	}
	t, err := l.do(ctx, r, path, entered)
	e.idle <- l
	return t, err
}

// blockUnseen says whether a thread may wait without telling Go's scheduler. Each one that does keeps other goroutines from
// running on one processor, of which one is always left to them.
func (e *Engine) blockUnseen() bool {
	if int(e.unseen.Add(1)) < runtime.GOMAXPROCS(0) {
		return true
	}
	e.unseen.Add(-1)
	return false
}

// lane takes one that is idle.
func (e *Engine) lane(ctx context.Context) (*lane, error) {
	select {
	case l := <-e.idle:
		return l, nil
	default:
	}
	select {
	case l := <-e.idle:
		return l, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-e.closing:
		return nil, ErrClosed
	}
}

// Go moves what a request says while the caller goes on. done is called once, from another goroutine, when no chunk of it
// is in flight any more; it must not block, nor call Close.
func (e *Engine) Go(r *Request, done func(Times, error)) {
	entered := now()
	if !e.life.TryRLock() {
		go done(Times{}, fail("go", ErrClosed))
		return
	}
	path, err := e.hold(r)
	switch {
	case err != nil:
		go func() {
			defer e.life.RUnlock()
			done(Times{}, err)
		}()
	case path > Uring:
		go func() {
			defer e.life.RUnlock()
			t, err := e.crew.do(context.Background(), e, r, path, entered)
			release(r)
			done(t, err)
		}()
	default:
		e.courier.take(r, path, entered, done)
	}
}

// Close ends the engine when the last operation has ended; those that wait for a ring are refused. Memory that is still
// registered is let go. Files stay open: they are the caller's.
func (e *Engine) Close() error {
	e.close.Do(func() {
		close(e.closing)
		e.life.Lock()
		if e.courier != nil {
			e.failed = e.courier.end()
		}
		e.crew.end()
		e.failed = errors.Join(e.failed, e.dropRings())
		close(e.ended)
	})
	return e.failed
}
