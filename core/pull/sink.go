package pull

import (
	"context"
	"errors"
	"fmt"

	"moorage/rdma"
)

// Sink is memory into which bytes of a peer go.
type Sink struct {
	endpoint *Endpoint
	hold     *hold
	next     cursor
	left     uint64 // bytes
	closed   bool
	free     chan struct{}

	// What a card may still write into, and the connections whose end says that it does not.
	stuck []slot
	gone  []<-chan struct{}
}

// Sink makes a sink of slices of memory, which the caller uses so many times before it deregisters or frees them.
func (e *Endpoint) Sink(into []Slice, uses int) (*Sink, error) {
	h, err := e.prepare(into, uses, receiving)
	if err != nil {
		return nil, err
	}
	s := &Sink{endpoint: e, hold: h, free: make(chan struct{})}
	s.left, _ = total(into)
	return s, nil
}

// Pull reads the next window of the peer's offer over c. When it returns the card is through with the sink, unless the error is an
// rdma.ErrQuarantined. After another error the memory of this window is undefined, and it may be read again, over another
// connection.
func (s *Sink) Pull(ctx context.Context, c *rdma.Conn, window []rdma.RemoteRegion) error {
	if s.closed {
		return failf(ErrClosed, "sink")
	}
	var size uint64
	for _, r := range window {
		if r.Length > s.left-size {
			return failf(ErrInvalid, "the peer offers more than the %d bytes that are left of the sink", s.left)
		}
		size += r.Length
	}
	p := lay(s.hold.parts, s.next, window, uint64(s.endpoint.in.size))
	err := s.read(ctx, c, p)
	if errors.Is(err, rdma.ErrQuarantined) {
		s.gone = append(s.gone, c.Gone())
	}
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	s.next, s.left = p.next, s.left-size
	return nil
}

// read carries a plan out. The direct reads are under way while the others are copied.
func (s *Sink) read(ctx context.Context, c *rdma.Conn, p *plan) error {
	if len(p.direct) == 0 {
		return s.bounce(ctx, c, p.chunks)
	}
	b, err := c.Submit(ctx, p.direct)
	if err != nil {
		return err
	}
	err = s.bounce(ctx, c, p.chunks)
	return errors.Join(b.Wait(ctx), err)
}

// flight is a chunk under way.
type flight struct {
	slot  slot
	chunk *chunk
	batch *rdma.Batch
}

// bounce reads chunks through bounce buffers, a few at a time, so that one is copied while others come.
func (s *Sink) bounce(ctx context.Context, c *rdma.Conn, chunks []chunk) (failed error) {
	in := &s.endpoint.in
	var flying []flight
	land := func() {
		failed = errors.Join(failed, s.land(ctx, flying[0]))
		flying = flying[1:]
	}
	for i := 0; i < len(chunks) && failed == nil; {
		var one slot
		if len(flying) == 0 {
			if one, failed = in.take(ctx); failed != nil {
				break
			}
		} else {
			ok := false
			if len(flying) < window {
				one, ok = in.try()
			}
			if !ok {
				land()
				continue
			}
		}
		f := flight{slot: one, chunk: &chunks[i]}
		if f.batch, failed = c.Submit(ctx, f.reads()); failed != nil {
			in.give(one)
			break
		}
		flying = append(flying, f)
		i++
	}
	for len(flying) > 0 {
		land()
	}
	return failed
}

// reads are those of the chunk, into the slot.
func (f *flight) reads() []rdma.Read {
	off := uint64(0)
	for i := range f.chunk.reads {
		r := &f.chunk.reads[i]
		r.Scatter = targets(f.slot.at, off, r.Length)
		off += r.Length
	}
	return f.chunk.reads
}

// land waits for a chunk and brings it to its place.
func (s *Sink) land(ctx context.Context, f flight) error {
	err := f.batch.Wait(ctx)
	if errors.Is(err, rdma.ErrQuarantined) {
		s.stuck = append(s.stuck, f.slot)
		return err
	}
	if err == nil {
		s.endpoint.copy(f.chunk.to, f.slot.addr, uintptr(f.chunk.size))
		s.hold.report.Copied += f.chunk.size
	}
	s.endpoint.in.give(f.slot)
	return err
}

// Report says what was done.
func (s *Sink) Report() Report { return s.hold.report }

// Left is how many bytes have not been read yet.
func (s *Sink) Left() uint64 { return s.left }

// Close ends the sink. rdma.ErrQuarantined: a card may still write into it, and the memory must stay until Free.
func (s *Sink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if len(s.gone) == 0 {
		defer close(s.free)
		return s.hold.end()
	}
	s.endpoint.held.Add(1)
	go func() {
		for _, gone := range s.gone {
			<-gone
		}
		for _, one := range s.stuck {
			s.endpoint.in.give(one)
		}
		_ = s.hold.end() // nobody is left to tell; the device is given up then
		s.endpoint.held.Add(-1)
		close(s.free)
	}()
	return failf(rdma.ErrQuarantined, "the memory must stay until the connection is gone")
}

// Free is closed when, behind Close, no card touches the memory any more.
func (s *Sink) Free() <-chan struct{} { return s.free }
