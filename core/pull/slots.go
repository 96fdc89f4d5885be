package pull

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"moorage/core/registry"
	"moorage/core/verbs"
)

// slots is bounce memory for one direction, mapped and registered with its first use, once.
type slots struct {
	registry *registry.Registry
	device   *registry.Attached
	use      registry.Use // never both: what one peer sent would be there for another to read
	size     int          // bytes of one
	count    int

	mu     sync.Mutex
	closed bool
	memory []byte
	loan   *registry.Loan
	free   chan slot
}

// slot is one of them. Whoever has it gives it back.
type slot struct {
	addr uintptr
	at   []verbs.Slice // where a card finds it
}

// ready maps and registers the memory unless it is.
func (s *slots) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return failf(ErrClosed, "endpoint")
	}
	if s.loan != nil {
		return nil
	}
	memory, err := unix.Mmap(-1, 0, s.size*s.count, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("pull: %d bytes for bounce buffers: %w", s.size*s.count, err)
	}
	// A child that shared the pages could make the kernel copy them away from under the card.
	err = unix.Madvise(memory, unix.MADV_DONTFORK)
	if err == nil {
		s.loan, err = s.registry.Lend(s.device, addressOf(memory), uint64(len(memory)), s.use)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pull: bounce buffers: %w", err), unix.Munmap(memory))
	}
	s.memory = memory
	s.free = make(chan slot, s.count)
	for i := range s.count {
		addr := addressOf(memory) + uintptr(i*s.size)
		s.free <- slot{addr, s.loan.Region.(*verbs.Region).Slices(addr, uint64(s.size), nil)}
	}
	return nil
}

// take waits for a slot.
func (s *slots) take(ctx context.Context) (slot, error) {
	if err := s.ready(); err != nil {
		return slot{}, err
	}
	if one, ok := s.try(); ok {
		return one, nil
	}
	select {
	case one := <-s.free:
		return one, nil
	case <-ctx.Done():
		return slot{}, fmt.Errorf("pull: wait for a bounce buffer: %w", context.Cause(ctx))
	}
}

// try gives a slot if one is free. The memory is ready.
func (s *slots) try() (slot, bool) {
	select {
	case one := <-s.free:
		return one, true
	default:
		return slot{}, false
	}
}

// give takes a slot back. The card is through with it.
func (s *slots) give(one slot) { s.free <- one }

// close waits for all slots, and takes the memory down.
func (s *slots) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.loan == nil {
		return nil
	}
	for all := make([]slot, 0, s.count); len(all) < s.count; {
		select {
		case one := <-s.free:
			all = append(all, one)
		case <-ctx.Done():
			for _, one := range all {
				s.free <- one
			}
			return failf(ErrInUse, "%d of %d bounce buffers", s.count-len(all), s.count)
		}
	}
	err := s.loan.End()
	s.loan = nil
	err = errors.Join(err, unix.Munmap(s.memory))
	s.memory = nil
	return err
}
