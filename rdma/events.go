package rdma

import (
	"fmt"

	"moorage/rdma/internal/ibv"
)

// events hears what a device tells unasked.
type events struct {
	domain  *Domain
	parking *parking
	ended   chan struct{}
}

func watchEvents(d *Domain) (*events, error) {
	p, err := newParking(d.context.AsyncFD(), "asynchronous events")
	if err != nil {
		return nil, err
	}
	e := &events{domain: d, parking: p, ended: make(chan struct{})}
	go e.run()
	return e, nil
}

func (e *events) close() {
	e.parking.wake()
	<-e.ended
	e.parking.close()
}

func (e *events) run() {
	defer close(e.ended)
	for {
		var ev ibv.AsyncEvent
		if err := e.parking.wait(func() error { return e.domain.verbs.GetAsyncEvent(e.domain.context, &ev) }); err != nil {
			return
		}
		e.domain.heard(&ev)
	}
}

// heard acts upon an event. It is acknowledged before anything waits: the object that it names cannot be destroyed until then.
func (d *Domain) heard(ev *ibv.AsyncEvent) {
	var concerned []*Conn
	about := func(f func(*Conn) bool) {
		d.each(func(c *Conn) {
			if f(c) {
				concerned = append(concerned, c)
			}
		})
	}
	all := func(*Conn) bool { return true }
	var cause error
	switch ev.Type {
	case ibv.EventDeviceFatal:
		d.lost.Store(true)
		about(all)
		cause = fmt.Errorf("%s: %w: it was removed or has failed", d.name, ErrDevice)
	case ibv.EventPortError:
		if ev.Element == uintptr(d.port) {
			about(all)
		}
		cause = fmt.Errorf("%s: %w: port %d has no link", d.name, ErrPeerLost, d.port)
	case ibv.EventCQError:
		about(func(c *Conn) bool { return c.usesCQ(ibv.CQ(ev.Element)) })
		cause = fmt.Errorf("%s: %w: a completion queue overflowed", d.name, ErrDevice)
	case ibv.EventQPFatal:
		about(func(c *Conn) bool { return c.usesQP(ibv.QP(ev.Element)) })
		cause = fmt.Errorf("%s: %w: a queue pair has failed", d.name, ErrDevice)
	case ibv.EventQPRequest, ibv.EventQPAccess:
		about(func(c *Conn) bool { return c.usesQP(ibv.QP(ev.Element)) })
		cause = fmt.Errorf("%s: %w: it asked for what it may not have", d.name, ErrPeerLost)
	}
	d.verbs.AckAsyncEvent(ev)
	for _, c := range concerned {
		c.fail(cause)
	}
}
