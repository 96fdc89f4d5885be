package blockio

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moorage/core/tier/uring"
)

// courier is the thread that moves what Go was given, as many requests as fit into one ring, in the order they came.
type courier struct {
	lane
	wake  int          // an eventfd, that the ring polls
	queue fifo         // operations with chunks that are still to be written to the ring; only of the first some are in flight
	ended []*operation // to be told
	count [8]byte      // what the eventfd says, and nobody needs
	gone  chan struct{}

	asleep atomic.Bool // it waits in the ring, or is about to

	mu      sync.Mutex
	arrived []*operation
	spare   []*operation
	started bool
	closed  bool
}

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0} // for an eventfd, whatever the order of bytes

func newCourier(e *Engine, r *uring.Ring, flights int) (*courier, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fail("eventfd", err)
	}
	c := &courier{lane: *newLane(e, r, flights), wake: wake, gone: make(chan struct{})}
	c.over = func(op *operation) {
		if c.queue.first() != op { // else advance sees to it
			c.ended = append(c.ended, op)
		}
	}
	return c, nil
}

// take begins an operation. Its segments and the engine are held for it.
func (c *courier) take(r *Request, path Path, entered int64, done func(Times, error)) {
	c.mu.Lock()
	var op *operation
	if n := len(c.spare); n > 0 {
		op, c.spare = c.spare[n-1], c.spare[:n-1]
	} else {
		op = new(operation)
	}
	op.begin(r, path, entered)
	op.done = done
	c.arrived = append(c.arrived, op)
	if !c.started {
		c.started = true
		go c.run()
	}
	c.mu.Unlock()
	c.rouse()
}

// rouse gets the thread out of the ring.
func (c *courier) rouse() {
	if c.asleep.Swap(false) {
		c.signal()
	}
}

func (c *courier) signal() {
	_, _ = unix.Write(c.wake, one)
}

// end stops the thread. Nothing is in flight, and no more comes.
func (c *courier) end() error {
	c.mu.Lock()
	c.closed = true
	started := c.started
	c.mu.Unlock()
	if started {
		c.signal() // the poll that is out sees it, or there will be none
		<-c.gone
	}
	return unix.Close(c.wake)
}

func (c *courier) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.gone)
	for c.collect() {
		c.advance()
		c.enter(c.patience(), 0)
		c.asleep.Store(false)
		c.reap()
		if len(c.told) > 0 {
			c.advance()
			c.enter(0, 0)
			c.tell()
		}
		c.advance()
		c.finish()
	}
}

// collect takes over what has arrived, and has the ring poll for more. False: there is nothing left, and never will be.
func (c *courier) collect() bool {
	c.mu.Lock()
	if len(c.arrived) > 0 {
		at := now()
		for i, op := range c.arrived {
			op.began = at
			c.queue.push(op)
			c.arrived[i] = nil
		}
		c.arrived = c.arrived[:0]
	}
	closed := c.closed
	c.mu.Unlock()
	if !closed && !c.polls && c.ring.Room() > 0 {
		c.drain()
		c.ring.PollIn(c.wake, wakeData)
		c.polls = true
	}
	return !closed || c.polls || c.queue.first() != nil || len(c.free) < len(c.flights)
}

func (c *courier) drain() {
	_, _ = unix.Read(c.wake, c.count[:])
}

// advance writes chunks to the ring while there is room, of the oldest operations first.
func (c *courier) advance() {
	for op := c.queue.first(); op != nil; op = c.queue.first() {
		c.fill(op)
		if op.more() {
			return
		}
		c.queue.pop()
		if op.flying == 0 {
			c.ended = append(c.ended, op)
		}
	}
}

// patience is how many completions to wait for: none when something has arrived, or is to be told.
func (c *courier) patience() uint32 {
	if len(c.ended) > 0 {
		return 0
	}
	c.asleep.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.arrived) > 0 {
		return 0
	}
	return 1
}

// finish tells whoever asked for the operations that have ended.
func (c *courier) finish() {
	for i, op := range c.ended {
		t, err := op.end(c.engine)
		release(op.request)
		op.done(t, err)
		c.ended[i] = nil
		*op = operation{}
		c.mu.Lock()
		c.spare = append(c.spare, op)
		c.mu.Unlock()
		c.engine.life.RUnlock()
	}
	c.ended = c.ended[:0]
}

// fifo is a queue of operations.
type fifo struct {
	list []*operation
	head int
}

func (q *fifo) first() *operation {
	if q.head == len(q.list) {
		return nil
	}
	return q.list[q.head]
}

func (q *fifo) push(op *operation) {
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, op)
}

func (q *fifo) pop() {
	q.list[q.head] = nil
	q.head++
}
