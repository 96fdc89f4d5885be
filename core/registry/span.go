package registry

import (
	"errors"
	"sync"
	"sync/atomic"
)

// span is memory that is registered as a whole, once for each device: a range of the caller's, or a slab.
type span struct {
	start, size uintptr
	gate        gate // transfers in flight
	regions     atomic.Pointer[[]*held]
	// pin says where the memory can be pinned, and ends that with done. Nil: where it is.
	pin  func(s *span) (at uintptr, done func() error, err error)
	slab bool

	mu sync.Mutex // who changes regions, or has the gate shut for a while
}

// region is what the memory is registered as with a device; nil when it is not.
func (s *span) region(number int) *held {
	if all := s.regions.Load(); all != nil && number < len(*all) {
		return (*all)[number]
	}
	return nil
}

// on registers the memory with a device unless it is. Many may ask at once, one does it.
func (s *span) on(r *Registry, a *Attached) (Region, error) {
	if h := s.region(a.number); h != nil {
		return h.region, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.region(a.number); h != nil {
		return h.region, nil
	}
	h, err := s.make(r, a)
	if err != nil {
		return nil, err
	}
	if s.slab && s.none() {
		r.count.slabs.Add(int64(s.size))
	}
	s.set(a.number, h)
	return h.region, nil
}

func (s *span) make(r *Registry, a *Attached) (h *held, err error) {
	at := s.start
	if s.pin != nil {
		var done func() error
		if at, done, err = s.pin(s); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, done()) }()
	}
	return r.register(a, at, s.start, s.size, Send|Receive)
}

// set puts a region into the list, which is never written to. mu is locked.
func (s *span) set(number int, h *held) {
	var all []*held
	if old := s.regions.Load(); old != nil {
		all = append(all, *old...)
	}
	for len(all) <= number {
		all = append(all, nil)
	}
	all[number] = h
	s.regions.Store(&all)
}

// none reports whether no device has it. mu is locked.
func (s *span) none() bool {
	if all := s.regions.Load(); all != nil {
		for _, h := range *all {
			if h != nil {
				return false
			}
		}
	}
	return true
}

// drop deregisters with one device. Its transfers have ended.
func (s *span) drop(r *Registry, number int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.region(number)
	if h == nil {
		return nil
	}
	s.set(number, nil)
	if s.slab && s.none() {
		r.count.slabs.Add(-int64(s.size))
	}
	return r.deregister(h)
}

// dropAll deregisters with all devices. No transfer is in flight. mu is locked.
func (s *span) dropAll(r *Registry) (err error) {
	all := s.regions.Swap(nil)
	if all == nil {
		return nil
	}
	had := false
	for _, h := range *all {
		if h != nil {
			had = true
			err = errors.Join(err, r.deregister(h))
		}
	}
	if s.slab && had {
		r.count.slabs.Add(-int64(s.size))
	}
	return err
}
