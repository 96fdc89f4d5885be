package rdma

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"moorage/rdma/internal/ibv"
)

// Conn is a connection to a Domain of a peer: one or more queue pairs, and a control connection whose end tells that the peer is
// gone. The first error ends it: all batches end with it, and a new connection is needed.
type Conn struct {
	domain  *Domain
	options ConnOptions
	control net.Conn
	peer    *hello
	most    uint64 // bytes of one work request
	gone    chan struct{}
	broken  chan struct{}
	settled chan struct{} // the teardown has done what it can
	heard   chan struct{} // the control connection is not read any more

	burying sync.Mutex // one destroy at a time; before mu

	mu      sync.Mutex
	queues  []*queue
	waiting []*Batch // with pieces that are not posted, in order
	active  []*Batch // not done
	cause   error
	drained chan struct{} // closed when nothing is under way, once cause is set
	timer   *time.Timer
	alarm   time.Time // when the timer goes off; zero: it is not set
}

// Offers are the regions that the peer described in its greeting.
func (c *Conn) Offers() []RemoteRegion { return c.peer.offers }

// PeerEpoch is the epoch of the peer's Domain.
func (c *Conn) PeerEpoch() uint64 { return c.peer.epoch }

// Broken is closed with the first error.
func (c *Conn) Broken() <-chan struct{} { return c.broken }

// Gone is closed when no queue pair is left: the peer can read nothing over this connection any more, and no card writes into
// targets of its reads. It stays open while a queue pair cannot be destroyed.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// Err is the first error, nil while the connection is good.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Close ends the connection and waits until no queue pair is left. An ErrQuarantined says that one is; Close may be tried again.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	<-c.settled
	select {
	case <-c.gone:
		return nil
	default:
		return c.destroy(ErrClosed)
	}
}

// start takes a batch in and posts what can be posted.
func (c *Conn) start(b *Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return flushedBy(c.cause)
	}
	b.index = len(c.active)
	c.active = append(c.active, b)
	c.waiting = append(c.waiting, b)
	if c.alarm.IsZero() || b.deadline.Before(c.alarm) {
		c.setAlarm(b.deadline)
	}
	c.pump()
	return nil
}

// pump posts on all queue pairs until no batch waits or no queue pair has room.
func (c *Conn) pump() {
	for again := true; again && c.cause == nil; {
		again = false
		for _, q := range c.queues {
			n := q.fill()
			if n == 0 {
				continue
			}
			again = true
			before := q.head
			if err := q.post(n); err != nil {
				err = fmt.Errorf("%w: %w", ErrDevice, called("ibv_post_send", err))
				for i := q.head; i != before+uint32(n); i++ {
					c.pieceEnded(q.at(i), err)
				}
				c.failLocked(err)
				return
			}
		}
	}
}

// completed is told of the end of a request by the poller; false says that no such request is under way.
func (c *Conn) completed(q *queue, sequence uint32, wc *ibv.WC) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sequence-q.tail >= q.underWay() {
		return false
	}
	var err error
	if wc.Status != ibv.Success {
		err = &ReadError{Status: uint32(wc.Status), VendorErr: wc.VendorErr}
		if wc.Status == ibv.Flushed && c.cause != nil {
			err = flushedBy(c.cause)
		}
	}
	q.ended(sequence, err)
	switch {
	case err != nil && c.cause == nil:
		c.failLocked(err)
	case c.cause == nil && len(c.waiting) > 0:
		c.pump()
	}
	c.noteDrained()
	return true
}

// pieceEnded counts a request of a batch as ended.
func (c *Conn) pieceEnded(p *posted, err error) {
	b := p.batch
	if err != nil && !b.told {
		b.failed(int(p.read), err)
	}
	*p = posted{}
	if b.left--; b.left == 0 {
		c.finish(b)
	}
}

// finish makes a batch done.
func (c *Conn) finish(b *Batch) {
	last := len(c.active) - 1
	c.active[b.index] = c.active[last]
	c.active[b.index].index = b.index
	c.active[last] = nil
	c.active = c.active[:last]
	if !b.told {
		b.told = true
		close(b.done)
	}
	b.release() // after it, a region that waits for its reads is closed
}

func (c *Conn) setAlarm(at time.Time) {
	c.alarm = at
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(at), c.expire)
		return
	}
	c.timer.Reset(time.Until(at))
}

// expire gives the connection up when a batch is late, and otherwise waits for the next deadline.
func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = time.Time{}
	if c.cause != nil {
		return
	}
	var next time.Time
	late := false
	for _, b := range c.active {
		if !time.Now().Before(b.deadline) {
			b.blame, late = ErrDeadline, true
		} else if next.IsZero() || b.deadline.Before(next) {
			next = b.deadline
		}
	}
	switch {
	case late:
		c.failLocked(ErrDeadline)
	case !next.IsZero():
		c.setAlarm(next)
	}
}

// fail ends the connection with err, if nothing has ended it before.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *Conn) failLocked(err error) {
	if c.cause != nil {
		return
	}
	c.cause = err
	close(c.broken)
	for _, b := range c.waiting {
		b.dropUnposted(flushedBy(err))
		if b.left == 0 {
			c.finish(b)
		}
	}
	c.waiting = nil
	if c.timer != nil {
		c.timer.Stop()
	}
	c.noteDrained()
	go c.teardown(err)
}

// noteDrained tells the teardown when nothing is under way any more.
func (c *Conn) noteDrained() {
	if c.cause == nil || c.drained == nil {
		return
	}
	for _, q := range c.queues {
		if q.underWay() > 0 {
			return
		}
	}
	close(c.drained)
	c.drained = nil
}

// teardown puts the queue pairs into the error state, in which the card gives back what is under way, waits a while for that,
// and destroys them: after it the card does not touch the targets, flushed or not.
func (c *Conn) teardown(cause error) {
	defer close(c.settled)
	if errors.Is(cause, ErrClosed) {
		_ = c.control.SetWriteDeadline(time.Now().Add(time.Second))
		_ = writeFrame(c.control, frameBye, nil)
	}
	_ = c.control.Close()
	<-c.heard
	flushing := true
	for _, q := range c.queues {
		flushing = c.domain.verbs.ModifyQP(q.qp, &ibv.QPAttr{State: ibv.StateError}, ibv.AttrState) == nil && flushing
	}
	c.awaitFlush(flushing)
	_ = c.destroy(cause)
}

func (c *Conn) awaitFlush(flushing bool) {
	drained := make(chan struct{})
	c.mu.Lock()
	c.drained = drained
	c.noteDrained()
	c.mu.Unlock()
	if !flushing {
		return
	}
	limit := time.NewTimer(c.domain.options.Flush)
	defer limit.Stop()
	select {
	case <-drained:
	case <-limit.C:
	}
}

// destroy destroys the queue pairs that are left and ends their batches. When one cannot be destroyed, its batches end with
// ErrQuarantined and keep their regions, and the connection stays in the domain's care. c.mu is not held while a queue pair is
// destroyed: that waits for events to be acknowledged, and who acknowledges them asks for c.mu.
func (c *Conn) destroy(cause error) error {
	c.burying.Lock()
	defer c.burying.Unlock()
	c.mu.Lock()
	queues := c.queues
	c.mu.Unlock()
	var errs []error
	var left []*queue
	for _, q := range queues {
		if err := c.domain.destroyQP(q); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrQuarantined, err))
			left = append(left, q)
			continue
		}
		c.mu.Lock()
		q.giveUp(flushedBy(c.firstCause(cause)))
		c.mu.Unlock()
	}
	err := errors.Join(errs...)
	c.mu.Lock()
	c.queues = left
	if err != nil {
		c.quarantine(err)
	}
	c.mu.Unlock()
	c.domain.forget(c, err == nil)
	if err == nil && !isClosed(c.gone) {
		close(c.gone)
	}
	return err
}

// quarantine ends the batches that the card may still work for, without releasing their regions.
func (c *Conn) quarantine(err error) {
	for _, b := range c.active {
		if b.told {
			continue
		}
		for i := range b.reads {
			b.failed(i, err)
		}
		b.err = err
		b.told = true
		close(b.done)
	}
}

// flushedBy is the error of a read that another failure has ended. What was wrong with another read, or how late it was, is only
// told in words: it says nothing about this one.
func flushedBy(cause error) error {
	var other *ReadError
	if errors.As(cause, &other) || errors.Is(cause, ErrDeadline) {
		return fmt.Errorf("%w: %v", ErrFlushed, cause)
	}
	return fmt.Errorf("%w: %w", ErrFlushed, cause)
}

// giveUp ends the connection because nobody waits for b any more.
func (c *Conn) giveUp(b *Batch, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !b.told {
		b.blame = why
		c.failLocked(why)
	}
}

func (c *Conn) firstCause(otherwise error) error {
	if c.cause != nil {
		return c.cause
	}
	return otherwise
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// destroyQP destroys a queue pair and gives its place back. Of a device that was removed, nothing is left that could touch memory,
// whatever the verb says.
func (d *Domain) destroyQP(q *queue) error {
	err := d.verbs.DestroyQP(q.qp)
	if errors.Is(err, syscall.EIO) && d.lost.Load() {
		err = nil
	}
	if err != nil {
		return called("ibv_destroy_qp", err)
	}
	_ = q.poster.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	q.poller.unseat(q)
	return nil
}

// forget takes a connection out of the domain, into quarantine if it is not gone.
func (d *Domain) forget(c *Conn, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	for i, b := range d.buried {
		if b == c {
			d.buried = append(d.buried[:i:i], d.buried[i+1:]...)
			break
		}
	}
	if !gone {
		d.buried = append(d.buried, c)
	}
}

// listen reads the control connection, on which nothing but a farewell may come.
func (c *Conn) listen() {
	defer close(c.heard)
	kind, _, err := readFrame(c.control)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: control connection: %w", ErrPeerLost, err)
	case kind == frameBye:
		err = ErrPeerClosed
	default:
		err = fmt.Errorf("%w: message %d on an open connection", ErrProtocol, kind)
	}
	c.fail(err)
}

func (c *Conn) usesQP(qp ibv.QP) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queues {
		if q.qp == qp {
			return true
		}
	}
	return false
}

func (c *Conn) usesCQ(cq ibv.CQ) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queues {
		if q.poller.cq == cq {
			return true
		}
	}
	return false
}
