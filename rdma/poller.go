package rdma

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

const (
	slotsPerPoller = 256
	pollBatch      = 64
	ackBatch       = 64
)

// poller takes the completions of one queue. It polls for a short while when it is woken up with reads under way, and after each
// completion; then it sleeps until the device wakes it.
//
// A work request's id is slot<<48 | generation<<32 | sequence number. What was posted on a queue pair that is gone finds
// another generation in its slot, and is dropped.
type poller struct {
	domain  *Domain
	cq      ibv.CQ
	channel ibv.Channel
	parking *parking
	spin    time.Duration
	free    int // entries that are not promised; under domain.mu
	slots   [slotsPerPoller]atomic.Pointer[queue]
	taken   [slotsPerPoller]bool // under domain.mu
	next    uint16               // generation; under domain.mu
	inWork  atomic.Int64         // requests posted and not ended
	stale   atomic.Uint64
	stopped atomic.Bool
	broken  atomic.Bool
	ended   chan struct{}
	unacked int
}

// newPoller makes a completion queue with at least need entries.
func newPoller(d *Domain, need int) (*poller, error) {
	entries := min(max(d.options.Entries, need), int(d.attr.MaxCQE))
	if entries < need {
		return nil, invalidf("the device has no completion queue of %d entries, only of %d", need, d.attr.MaxCQE)
	}
	p := &poller{domain: d, spin: max(d.options.Spin, 0), free: entries, ended: make(chan struct{})}
	channel, fd, err := d.verbs.CreateChannel(d.context)
	if err != nil {
		return nil, called("ibv_create_comp_channel", err)
	}
	p.channel = channel
	if p.parking, err = newParking(fd, "completion channel"); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	if p.cq, err = d.verbs.CreateCQ(d.context, entries, channel); err != nil {
		return nil, errors.Join(called("ibv_create_cq", err), p.destroy())
	}
	go p.run()
	return p, nil
}

// destroy ends what newPoller made so far; what could not be ended is tried again next time.
func (p *poller) destroy() error {
	if p.parking != nil {
		p.parking.close()
		p.parking = nil
	}
	if p.cq != 0 {
		if err := p.domain.verbs.DestroyCQ(p.cq); err != nil {
			return called("ibv_destroy_cq", err)
		}
		p.cq = 0
	}
	if p.channel != 0 {
		if err := p.domain.verbs.DestroyChannel(p.channel); err != nil {
			return called("ibv_destroy_comp_channel", err)
		}
		p.channel = 0
	}
	return nil
}

// close stops the goroutine and ends the queue. No queue pair may be left on it.
func (p *poller) close() error {
	if p.parking != nil {
		p.stopped.Store(true)
		p.parking.wake()
		<-p.ended
	}
	return p.destroy()
}

// seat reserves a slot and entries for q. The caller holds domain.mu.
func (p *poller) seat(q *queue) bool {
	if p.broken.Load() || p.free < int(q.depth) {
		return false
	}
	for i := range p.taken {
		if !p.taken[i] {
			p.taken[i] = true
			p.free -= int(q.depth)
			p.next++
			q.poller, q.slot = p, i
			q.base = uint64(i)<<48 | uint64(p.next)<<32
			return true
		}
	}
	return false
}

// unseat gives back what seat reserved, when the queue pair is gone. The caller holds domain.mu.
func (p *poller) unseat(q *queue) {
	p.slots[q.slot].Store(nil)
	p.taken[q.slot] = false
	p.free += int(q.depth)
}

// seatQueue finds or makes a poller with room for q.
func (d *Domain) seatQueue(q *queue) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pollers {
		if p.seat(q) {
			return nil
		}
	}
	p, err := newPoller(d, int(q.depth))
	if err != nil {
		return err
	}
	d.pollers = append(d.pollers, p)
	p.seat(q)
	return nil
}

func (p *poller) run() {
	defer close(p.ended)
	var room [pollBatch]ibv.WC
	for !p.stopped.Load() {
		if err := p.round(room[:]); err != nil {
			if !p.stopped.Load() {
				p.fail(err)
			}
			break
		}
	}
	if p.unacked > 0 {
		p.domain.verbs.AckCQEvents(p.cq, p.unacked)
	}
}

// round takes completions until there are none, then sleeps until there are.
func (p *poller) round(room []ibv.WC) error {
	var spin time.Duration
	if p.inWork.Load() > 0 {
		spin = p.spin
	}
	for {
		if n, err := p.take(room, spin); err != nil || n == 0 {
			if err != nil {
				return err
			}
			break
		}
		if p.stopped.Load() {
			return nil
		}
		spin = p.spin // whoever waited for these may have more: to be woken up for it costs system calls
	}
	if err := p.cq.Notify(); err != nil {
		return called("ibv_req_notify_cq", err)
	}
	// What came before the queue was armed makes no event.
	if n, err := p.take(room, 0); err != nil || n > 0 {
		return err
	}
	if err := p.parking.wait(func() error { return p.domain.verbs.GetCQEvent(p.channel) }); err != nil {
		return called("ibv_get_cq_event", err)
	}
	if p.unacked++; p.unacked >= ackBatch {
		p.domain.verbs.AckCQEvents(p.cq, p.unacked)
		p.unacked = 0
	}
	return nil
}

func (p *poller) take(room []ibv.WC, spin time.Duration) (int, error) {
	n := shim.Poll(p.cq, room, spin)
	if n < 0 {
		return 0, fmt.Errorf("%w: its completion queue is broken", ErrDevice)
	}
	for i := range room[:n] {
		wc := &room[i]
		q := p.slots[wc.ID>>48%slotsPerPoller].Load()
		if q == nil || q.base != wc.ID&^uint64(1<<32-1) || !q.conn.completed(q, uint32(wc.ID), wc) {
			p.stale.Add(1)
		}
	}
	return n, nil
}

// fail ends all connections of a queue from which nothing can be read any more.
func (p *poller) fail(err error) {
	p.broken.Store(true)
	for i := range p.slots {
		if q := p.slots[i].Load(); q != nil {
			q.conn.fail(err)
		}
	}
}
