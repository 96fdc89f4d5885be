package core

import (
	"sync/atomic"

	"moorage/core/tier/timing"
)

// All stands for as many bytes as there are.
const All = ^uint64(0)

// Span is memory of the caller's to be filled.
type Span struct {
	Addr uintptr
	Size uint64
}

// Into says which bytes of an object go where: Bytes of them (All: to the end) from Offset on fill the spans one after
// the other.
type Into struct {
	Offset, Bytes uint64
	Spans         []Span
}

// GetInto copies bytes of an object into memory of the caller's and says how many. ErrTooSmall when the spans hold less,
// ErrInvalid when the range exceeds the object, ErrReadOnly when a span lies in memory that must not be written to;
// nothing is written then. ErrNotFound and ErrClosed come unwrapped.
//
// What only the disk has is read straight to a single span; it does not come into memory then.
func (s *Store) GetInto(key []byte, to Into) (uint64, error) { return s.getInto(key, to, 0) }

func (s *Store) getInto(key []byte, to Into, since int64) (uint64, error) {
	if s.tiered != nil && len(to.Spans) == 1 && !s.isReadOnly(to.Spans[0].Addr, to.Spans[0].Size) {
		if n, done, err := s.readInto(key, to.Offset, to.Bytes, to.Spans[0].Addr, to.Spans[0].Size, since); done || err != nil {
			return n, err
		}
	}
	v, err := s.getQueued(timing.GetInto, key, false, since)
	if err != nil {
		return 0, err
	}
	defer v.Release()
	n, err := s.checkInto(v.Size(), to)
	if err != nil {
		return 0, err
	}
	from, left := v.Addr()+uintptr(to.Offset), n
	for i := 0; left > 0; i++ {
		part := min(to.Spans[i].Size, left)
		if part > 0 {
			s.host.copy(to.Spans[i].Addr, from, uintptr(part), &neverClosing)
		}
		from, left = from+uintptr(part), left-part
	}
	s.control.CopiedOut.Add(n) // the view keeps it mapped
	return n, nil
}

// neverClosing is what a copy out looks at: what is viewed stays after a close, so there is no reason to stop.
var neverClosing atomic.Uint32

func (s *Store) isReadOnly(addr uintptr, n uint64) bool {
	return n > 0 && s.host.readOnly != nil && s.host.readOnly(addr, n)
}

// checkInto says how many bytes are to be copied, before the first is written.
func (s *Store) checkInto(size uint64, to Into) (uint64, error) {
	const op = "get into"
	if to.Offset > size || to.Bytes != All && to.Bytes > size-to.Offset {
		return 0, failf(op, ErrInvalid, "nbytes %d from offset %d exceed the object's %d bytes", to.Bytes, to.Offset, size)
	}
	n := min(to.Bytes, size-to.Offset)
	left := n
	for i, span := range to.Spans {
		part := min(span.Size, left)
		if s.isReadOnly(span.Addr, part) {
			return 0, failf(op, ErrReadOnly, "span %d of the destination lies in the read-only memory of a store; give memory of your own", i)
		}
		left -= part
	}
	if left > 0 {
		return 0, failf(op, ErrTooSmall, "nbytes: %d are to be copied, and the destination holds %d", n, n-left)
	}
	return n, nil
}
