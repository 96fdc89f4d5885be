package pull

import (
	"context"
	"errors"
	"sync/atomic"

	"moorage/core/cost"
	"moorage/core/registry"
	"moorage/core/tensor"
	"moorage/core/verbs"
)

// Options are the choices for New. Zero is the default of each.
type Options struct {
	Model  cost.Model                // what happens to memory that is not registered
	Chunk  int                       // bytes of a bounce buffer, 256 KiB; a multiple of the page size
	Chunks int                       // bounce buffers in each direction, 16
	Copy   func(dst, src, n uintptr) // into and out of them; nil: Go's
}

// Endpoint is one store's end of transfers over one card.
type Endpoint struct {
	registry *registry.Registry
	device   *registry.Attached
	model    cost.Model
	copy     func(dst, src, n uintptr)
	in, out  slots

	held atomic.Int64 // sinks and offers that wait for a card to be through
}

// New makes an endpoint over a card that is attached to the registry. Nothing is mapped or registered before it is needed.
func New(r *registry.Registry, a *registry.Attached, o Options) (*Endpoint, error) {
	if _, ok := a.Device().(*verbs.Device); !ok {
		return nil, failf(ErrInvalid, "%s is not a network card", a.Name())
	}
	if !o.Model.Policy.Valid() {
		return nil, failf(ErrInvalid, "Model.Policy: %v", o.Model.Policy)
	}
	if o.Chunk == 0 {
		o.Chunk = 256 << 10
	}
	if o.Chunks == 0 {
		o.Chunks = 16
	}
	if o.Chunk < 0 || o.Chunk%4096 != 0 || o.Chunk > 1<<30 {
		return nil, failf(ErrInvalid, "Chunk: %d is not a multiple of 4096 up to 1 GiB", o.Chunk)
	}
	if o.Chunks < 0 || o.Chunks > 1<<16 {
		return nil, failf(ErrInvalid, "Chunks: %d is not between 1 and %d", o.Chunks, 1<<16)
	}
	if o.Copy == nil {
		o.Copy = tensor.CopyGo
	}
	return &Endpoint{registry: r, device: a, model: o.Model, copy: o.Copy,
		in:  slots{registry: r, device: a, use: registry.Receive, size: o.Chunk, count: o.Chunks},
		out: slots{registry: r, device: a, use: registry.Send, size: o.Chunk, count: o.Chunks}}, nil
}

// Held is how many offers and sinks were given up and wait for a card that may still touch their memory.
func (e *Endpoint) Held() int { return int(e.held.Load()) }

// Close takes the bounce buffers down when nobody has one any more. ErrInUse: that was not before ctx ended; no new ones are given
// out, and Close may be called again.
func (e *Endpoint) Close(ctx context.Context) error {
	return errors.Join(e.in.close(ctx), e.out.close(ctx))
}

// part is one slice of an offer or sink, and what was found out about it.
type part struct {
	Slice
	bounced bool
	at      []verbs.Slice // where a card finds it, unless it is bounced
}

// hold is the memory of one offer or sink.
type hold struct {
	parts  []part
	pieces []registry.Piece
	loans  []*registry.Loan
	report Report
}

// sides are the ways of one direction.
type sides struct {
	use                                    registry.Use
	inStore, registered, onTheFly, bounced Way
}

var (
	sending   = sides{registry.Send, W0, W1, W3, W2}
	receiving = sides{registry.Receive, R2, R1, R3, R4}
)

// prepare finds a way for each slice. After an error nothing is held.
func (e *Endpoint) prepare(slices []Slice, uses int, d sides) (*hold, error) {
	if _, err := total(slices); err != nil {
		return nil, err
	}
	h := &hold{parts: make([]part, 0, len(slices))}
	for i, s := range slices {
		if s.Size == 0 {
			continue
		}
		if err := e.add(h, s, uses, d); err != nil {
			return nil, errors.Join(failf(err, "slice %d", i), h.end())
		}
	}
	return h, nil
}

func (e *Endpoint) add(h *hold, s Slice, uses int, d sides) error {
	found, registered := e.registry.Find(s.Addr, s.Size)
	end, _ := e.registry.Find(s.Addr+uintptr(s.Size)-1, 1)
	switch {
	case found.Store && !registered || found.Store != end.Store:
		return failf(ErrInvalid, "%d bytes at address 0x%x lie in the store with a part of them alone", s.Size, s.Addr)
	case found.Store && d.use == registry.Receive && !s.Reserved:
		return ErrReadOnly
	}
	if registered {
		way := d.registered
		if found.Store {
			way = d.inStore
		}
		err := e.acquire(h, s, way)
		if err == nil || !errors.Is(err, registry.ErrNotRegistered) {
			return err
		} // released a moment ago
	}
	choice, err := e.model.Choose(s.Size, uses, false)
	if err != nil {
		return err
	}
	if choice == cost.OnTheFly {
		err := e.lend(h, s, d)
		if err == nil || e.model.Policy != cost.Auto || !errors.Is(err, registry.ErrMemlock) {
			return err
		} // nobody asked for it: it is copied, as it would be without a model
	}
	h.report.Bytes[d.bounced] += s.Size
	h.parts = append(h.parts, part{Slice: s, bounced: true})
	return nil
}

func (e *Endpoint) acquire(h *hold, s Slice, way Way) error {
	had := len(h.pieces)
	var err error
	if h.pieces, err = e.registry.Acquire(e.device, s.Addr, s.Size, h.pieces); err != nil {
		return err
	}
	p := part{Slice: s}
	for _, piece := range h.pieces[had:] {
		p.at = piece.Region.(*verbs.Region).Slices(piece.Addr, piece.Size, p.at)
	}
	h.parts = append(h.parts, p)
	h.report.Bytes[way] += s.Size
	return nil
}

func (e *Endpoint) lend(h *hold, s Slice, d sides) error {
	loan, err := e.registry.Lend(e.device, s.Addr, s.Size, d.use)
	if err != nil {
		return err
	}
	h.loans = append(h.loans, loan)
	h.parts = append(h.parts, part{Slice: s, at: loan.Region.(*verbs.Region).Slices(s.Addr, s.Size, nil)})
	h.report.Bytes[d.onTheFly] += s.Size
	h.report.Registrations++
	return nil
}

// end lets the memory go. No card is at it any more.
func (h *hold) end() (err error) {
	for i := range h.pieces {
		h.pieces[i].End()
	}
	for _, l := range h.loans {
		err = errors.Join(err, l.End())
	}
	h.pieces, h.loans = nil, nil
	return err
}
