package verbs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moorage/core/registry"
	"moorage/rdma"
)

// longest is how long a region waits for reads that ended a moment ago.
const longest = 10 * time.Second

// Options are those of the domain that is made of a card.
type Options = rdma.DomainOptions

// Device is an opened card: a device of a registry, and the domain over which peers are reached.
type Device struct {
	domain *rdma.Domain
	most   uintptr // bytes of one registration
}

// Open opens the card of that name; the empty name means the first one with an active port.
func Open(name string, o Options) (*Device, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	d, err := lib.Open(name, o)
	if err != nil {
		return nil, err
	}
	return &Device{domain: d, most: partSize(d.MaxRegister())}, nil
}

// Name is the card's name.
func (d *Device) Name() string { return d.domain.Name() }

// Domain is what connections are made of.
func (d *Device) Domain() *rdma.Domain { return d.domain }

// Close ends all connections and registrations. An error says what could not be ended; Close may be tried again.
func (d *Device) Close() error { return d.domain.Close() }

// rights are what each use of memory needs. There is none that lets a peer write.
func rights(use registry.Use) (a rdma.Access) {
	if use&registry.Send != 0 {
		a |= rdma.RemoteRead
	}
	if use&registry.Receive != 0 {
		a |= rdma.LocalTarget
	}
	return a
}

// Register registers what is mapped at address at under the name of as, in parts no longer than the card takes; all of them or
// none.
func (d *Device) Register(at, as, size uintptr, use registry.Use) (registry.Region, error) {
	r := &Region{device: d, start: as, size: size}
	for off := uintptr(0); off < size; off += d.most {
		part, err := d.domain.RegisterAs(at+off, as+off, min(d.most, size-off), rights(use))
		if err != nil {
			return nil, errors.Join(explain(err), r.Deregister())
		}
		r.parts = append(r.parts, part)
	}
	return r, nil
}

// explain gives an error its place among those of a registry.
func explain(err error) error {
	if errors.Is(err, rdma.ErrInvalid) {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return err
}

// Region is memory that is registered with a card, in one or several parts.
type Region struct {
	device      *Device
	start, size uintptr
	parts       []*rdma.Region
}

// Deregister ends it. If the card refuses, the card is given up: no connection is left over which the memory could be
// touched, and none is made any more.
func (r *Region) Deregister() error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var errs []error
	for _, p := range r.parts {
		errs = append(errs, p.Close(ctx))
	}
	err := errors.Join(errs...)
	if err != nil {
		err = errors.Join(err, r.device.domain.GiveUp(err))
	}
	return err
}

// Slice is a range within one part of a Region.
type Slice struct {
	Part           *rdma.Region
	Offset, Length uint64
}

// Remote describes it to a peer.
func (s Slice) Remote() rdma.RemoteRegion {
	r := s.Part.Remote()
	r.Addr, r.Length = r.Addr+s.Offset, s.Length
	return r
}

// Slices appends where n bytes at addr lie, which are in the region.
func (r *Region) Slices(addr uintptr, n uint64, slices []Slice) []Slice {
	most := uint64(r.device.most)
	for off := uint64(addr - r.start); n > 0; {
		part := r.parts[off/most]
		length := min(n, part.Length()-off%most)
		slices = append(slices, Slice{part, off % most, length})
		off, n = off+length, n-length
	}
	return slices
}

// partSize is how long the parts are of what is longer: a multiple of the pages of any size, if it can be.
func partSize(most uint64) uintptr {
	for _, page := range []uint64{1 << 30, 2 << 20, 64 << 10} {
		if most >= page {
			return uintptr(min(most, 1<<62) &^ (page - 1))
		}
	}
	return uintptr(max(most&^4095, 4096))
}
