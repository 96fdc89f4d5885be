package blockio

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"moorage/core/tier/uring"
)

// Data of requests in a ring that are no chunks.
const (
	wakeData   = 1 << 32
	cancelData = 1 << 33
)

const (
	glance    = 10 * time.Millisecond // between two looks at a context while nothing completes
	brief     = time.Millisecond      // a wait that Go's scheduler is not told of
	breath    = time.Millisecond      // after the kernel had no resources
	maxStalls = 5000                  // of them in a row
)

// lane is a ring and the chunks in flight in it. It belongs to one locked thread at a time.
type lane struct {
	engine  *Engine
	ring    *uring.Ring
	flights []chunk  // by the data of their requests
	free    []uint32 // of flights
	fresh   []uint32 // written to the ring, not yet handed to the kernel
	told    []chunk  // complete, and their Chunk is still to be called
	polls   bool     // a request of the ring waits for an eventfd, the courier's
	stalls  int
	solo    operation // Do's

	over func(*operation) // the last chunk in flight of an operation has landed; may be nil
}

func newLane(e *Engine, r *uring.Ring, flights int) *lane {
	l := &lane{
		engine: e, ring: r, flights: make([]chunk, flights), free: make([]uint32, flights),
		fresh: make([]uint32, 0, flights), told: make([]chunk, 0, flights),
	}
	for i := range l.free {
		l.free[i] = uint32(i)
	}
	return l
}

// do moves a request in the calling thread.
func (l *lane) do(ctx context.Context, r *Request, path Path, entered int64) (Times, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	op := &l.solo
	op.begin(r, path, entered)
	op.began = now()
	var look time.Duration
	if ctx.Done() != nil {
		look = glance
	}
	l.fill(op)
	if op.flying == 1 && !op.more() && l.engine.blockUnseen() {
		l.enterBriefly()
		l.engine.unseen.Add(-1)
	}
	for l.gather(op); op.flying > 0; l.gather(op) {
		l.enter(group(op), look)
		if look > 0 && op.err == nil && ctx.Err() != nil && (op.flying > l.ring.Ready() || op.more()) {
			op.cancel(context.Cause(ctx))
			l.cancel(op)
		}
	}
	t, err := op.end(l.engine)
	op.request = nil
	return t, err
}

// gather takes in what is complete, and writes more to the ring. Chunk is called when the kernel has got that.
func (l *lane) gather(op *operation) {
	l.reap()
	more := l.fill(op)
	if len(l.told) > 0 {
		if more {
			l.enter(0, 0)
		}
		l.tell()
	}
}

// group is how many completions of an operation to wait for. Each time a thread is woken costs processor time, so where nobody
// wants to know of single chunks they are taken in together: half of them while there are more to submit, so that the other
// half stays in flight, and in the end all.
func group(op *operation) uint32 {
	switch {
	case op.request.Chunk != nil:
		return 1
	case op.more():
		return uint32(op.flying+1) / 2
	default:
		return uint32(op.flying)
	}
}

// fill writes chunks of an operation to the ring as long as there is room, and says whether there were any.
func (l *lane) fill(op *operation) (any bool) {
	for len(l.free) > 0 {
		c, ok := op.next(l.engine)
		if !ok {
			break
		}
		i := l.free[len(l.free)-1]
		l.free = l.free[:len(l.free)-1]
		l.flights[i] = c
		op.flying++
		l.write(i)
		any = true
	}
	return any
}

// write writes what is left of a chunk to the ring. There is room: a chunk in flight has at most one request there.
func (l *lane) write(i uint32) {
	c := &l.flights[i]
	p := c.in()
	off, n := c.off+c.done, uint32(c.n-c.done)
	addr, at := p.Addr+uintptr(off), p.Off+int64(off)
	l.fresh = append(l.fresh, i)
	g, _ := p.Buffer.(*Region)
	if g == nil || !g.Registered() {
		if c.op.request.Write {
			l.ring.Write(p.File.target, addr, n, at, uint64(i))
		} else {
			l.ring.Read(p.File.target, addr, n, at, uint64(i))
		}
		return
	}
	inside := addr - g.as // the kernel counts from where the memory was mapped when it was registered
	place := g.parts[inside/l.engine.table.part]
	if c.op.request.Write {
		l.ring.WriteFixed(p.File.target, place, g.at+inside, n, at, uint64(i))
	} else {
		l.ring.ReadFixed(p.File.target, place, g.at+inside, n, at, uint64(i))
	}
}

// enter hands to the kernel what was written, and waits for completions.
func (l *lane) enter(wait uint32, timeout time.Duration) {
	l.stamp()
	l.entered(l.ring.Enter(wait, timeout))
}

// enterBriefly is enter for a single chunk, which most likely takes no longer than that.
func (l *lane) enterBriefly() {
	l.stamp()
	l.entered(l.ring.EnterBriefly(1, brief))
}

// stamp notes when chunks are handed over: right before that.
func (l *lane) stamp() {
	if len(l.fresh) == 0 {
		return
	}
	at := now()
	for _, i := range l.fresh {
		c := &l.flights[i]
		if c.began == 0 {
			c.began = at
		}
		if t := &c.op.times; t.First == 0 {
			t.First, t.Depth = at, c.op.flying
		}
	}
	l.fresh = l.fresh[:0]
}

func (l *lane) entered(err error) {
	if err != nil {
		l.refused(err)
		return
	}
	l.stalls = 0
}

// refused waits when the kernel lacks resources, and gives up what it did not take when that does not help. What it did
// take is in flight, and is waited for.
func (l *lane) refused(err error) {
	if l.stalls++; !uring.Busy(err) || l.stalls > maxStalls {
		l.ring.Withdraw(func(data uint64) {
			switch {
			case data < wakeData:
				c := &l.flights[data]
				c.op.fail(err)
				l.land(uint32(data), c.op.times.First)
			case data == wakeData:
				l.polls = false
			}
		})
	}
	time.Sleep(breath)
}

// reap takes out what is complete, at one time for all of it.
func (l *lane) reap() {
	n := l.ring.Ready()
	if n == 0 {
		return
	}
	at := now()
	for range n {
		c := l.ring.Next()
		switch {
		case c.Data < wakeData:
			l.completed(uint32(c.Data), c.Result, at)
		case c.Data == wakeData:
			l.polls = false
		}
	}
}

func (l *lane) completed(i uint32, result int32, at int64) {
	c := &l.flights[i]
	e := l.engine
	if e.bend != nil {
		p := c.in()
		result = e.bend(p.Off+int64(c.off+c.done), c.n-c.done, result)
	}
	var err error
	if result < 0 {
		result, err = 0, unix.Errno(-result)
	}
	again, err := c.moved(e, int(result), err)
	if again && c.op.err == nil {
		l.write(i)
		return
	}
	if err != nil {
		c.op.fail(err)
	}
	if c.done == c.n && c.op.request.Chunk != nil {
		l.told = append(l.told, *c)
	}
	l.land(i, at)
}

func (l *lane) land(i uint32, at int64) {
	c := &l.flights[i]
	op := c.op
	op.landed(c, at)
	*c = chunk{}
	l.free = append(l.free, i)
	if op.flying--; op.flying == 0 && l.over != nil {
		l.over(op)
	}
}

// tell calls Chunk for what is complete.
func (l *lane) tell() {
	for i := range l.told {
		c := &l.told[i]
		c.op.request.Chunk(c.piece, c.off, c.n)
		*c = chunk{}
	}
	l.told = l.told[:0]
}

// cancel asks the kernel to give up the chunks of an operation. Their completions come nevertheless.
func (l *lane) cancel(op *operation) {
	for i := range l.flights {
		if l.flights[i].op == op && l.ring.Room() > 0 {
			l.ring.Cancel(uint64(i), cancelData)
		}
	}
}

func (o *operation) cancel(why error) {
	o.cancelled = true
	if !errors.Is(why, context.Canceled) && !errors.Is(why, context.DeadlineExceeded) {
		why = fmt.Errorf("%w: %w", context.Canceled, why)
	}
	o.fail(why)
}
