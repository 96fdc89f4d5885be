package pull

import (
	"context"
	"io"

	"moorage/core/verbs"
	"moorage/rdma"
)

// window is the most bounce buffers that one window of an offer takes.
const window = 4

// Offer is bytes that a peer may read.
type Offer struct {
	endpoint *Endpoint
	hold     *hold
	slots    []slot // of the last window
	part     int    // next
	off      uint64 // in it
	closed   bool
}

// Offer makes an offer of slices of memory, which the caller uses so many times before it deregisters or frees them.
func (e *Endpoint) Offer(from []Slice, uses int) (*Offer, error) {
	h, err := e.prepare(from, uses, sending)
	if err != nil {
		return nil, err
	}
	return &Offer{endpoint: e, hold: h}, nil
}

// Next gives what the peer may read now: the bytes of all windows one after another are those of the offer. It says that the
// peer is through with the window before. io.EOF: there was all. What needs no bounce buffer comes in one window.
func (o *Offer) Next(ctx context.Context) (regions []rdma.RemoteRegion, err error) {
	if o.closed {
		return nil, failf(ErrClosed, "offer")
	}
	o.giveBack()
	part, off := o.part, o.off
	defer func() {
		if err != nil && err != io.EOF { // the next call tries again
			o.part, o.off = part, off
		}
	}()
	for ; o.part < len(o.hold.parts); o.part, o.off = o.part+1, 0 {
		p := &o.hold.parts[o.part]
		if !p.bounced {
			regions = describe(regions, p.at, p.Size)
			continue
		}
		for o.off < p.Size {
			if len(o.slots) == window {
				return regions, nil
			}
			one, ok := slot{}, false
			if len(regions) == 0 {
				one, err = o.endpoint.out.take(ctx)
			} else if err = o.endpoint.out.ready(); err == nil {
				if one, ok = o.endpoint.out.try(); !ok {
					return regions, nil
				}
			}
			if err != nil {
				return nil, err
			}
			regions = o.fill(one, p, regions)
		}
	}
	if len(regions) == 0 {
		return nil, io.EOF
	}
	return regions, nil
}

// fill copies the next bytes of a part into a slot.
func (o *Offer) fill(one slot, p *part, regions []rdma.RemoteRegion) []rdma.RemoteRegion {
	n := min(p.Size-o.off, uint64(o.endpoint.out.size))
	o.endpoint.copy(one.addr, p.Addr+uintptr(o.off), uintptr(n))
	o.slots = append(o.slots, one)
	o.off += n
	o.hold.report.Copied += n
	return describe(regions, one.at, n)
}

// describe tells the first n bytes of slices to a peer.
func describe(regions []rdma.RemoteRegion, at []verbs.Slice, n uint64) []rdma.RemoteRegion {
	for _, s := range at {
		if n == 0 {
			break
		}
		s.Length = min(s.Length, n)
		regions = append(regions, s.Remote())
		n -= s.Length
	}
	return regions
}

func (o *Offer) giveBack() {
	for _, one := range o.slots {
		o.endpoint.out.give(one)
	}
	o.slots = o.slots[:0]
}

// Report says what was done.
func (o *Offer) Report() Report { return o.hold.report }

// Close ends the offer. The peer is through with it.
func (o *Offer) Close() error {
	if o.closed {
		return nil
	}
	o.closed = true
	o.giveBack()
	return o.hold.end()
}

// CloseWhenGone ends the offer when the peer cannot read it any more, and returns at once. It is for a peer that has said nothing.
// done is called behind it: until then the memory must stay. It may be nil.
func (o *Offer) CloseWhenGone(c *rdma.Conn, done func(error)) {
	o.endpoint.held.Add(1)
	go func() {
		<-c.Gone()
		err := o.Close()
		o.endpoint.held.Add(-1)
		if done != nil {
			done(err)
		}
	}()
}
