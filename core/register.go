package core

import (
	"context"

	"moorage/core/registry"
)

// Register takes up memory of the caller, so that transfers may use it: size bytes at addr, which must stay mapped until the
// registration has been released, or the store closed. With Lock its pages are locked in memory, too.
func (s *Store) Register(addr uintptr, size uint64, o registry.Options) (*registry.Registration, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail("register", ErrClosed)
	}
	defer gate.leave()
	g, err := s.registry.Register(addr, size, o)
	if err != nil {
		return nil, fail("register", classify(err))
	}
	return g, nil
}

// Unregister ends a registration, also behind Close. ErrTimeout: transfers are in flight, and the memory must stay as it
// is; no further one begins, and Unregister may be called again.
func Unregister(ctx context.Context, g *registry.Registration) error {
	if err := g.Release(ctx); err != nil {
		return fail("unregister", classify(err))
	}
	return nil
}

// FindRegistered says where n bytes at addr are registered. ErrNotFound: not all of them lie in one registration, or in
// the store.
func (s *Store) FindRegistered(addr uintptr, n uint64) (registry.Found, error) {
	const op = "find registered memory"
	gate := s.anyShard()
	if !gate.enter(s) {
		return registry.Found{}, fail(op, ErrClosed)
	}
	defer gate.leave()
	f, ok := s.registry.Find(addr, n)
	if !ok {
		return f, failf(op, ErrNotFound, "%d bytes at address 0x%x are not registered", n, addr)
	}
	return f, nil
}

// Attach makes a device known, which then registers memory as transfers meet it: see core/registry. A store whose memory
// is prefaulted is registered with it at once, in the background. A device that can be closed belongs to the store from
// now on, and is closed by Detach or when the store's memory goes; after an error it is the caller's.
func (s *Store) Attach(d registry.Device) (*registry.Attached, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail("attach", ErrClosed)
	}
	defer gate.leave()
	a, err := s.registry.Attach(d)
	if err != nil {
		return nil, fail("attach", classify(err))
	}
	if s.opts.Prefault != 0 {
		s.warming.tasks.Go(func() { _ = s.registry.Warm(s.warming.ctx, a) }) // what fails is tried again when it is needed
	}
	return a, nil
}

// Detach takes a device away, once its last transfer has ended, and closes it. ErrTimeout: that was not before ctx ended; no
// transfer begins any more, and Detach may be called again, also behind Close.
func (s *Store) Detach(ctx context.Context, a *registry.Attached) error {
	if err := s.registry.Detach(ctx, a); err != nil {
		return fail("detach", classify(err))
	}
	return nil
}

// Registry is what transfers ask for memory. Who asks for memory of the store views the object meanwhile.
func (s *Store) Registry() *registry.Registry { return s.registry }
