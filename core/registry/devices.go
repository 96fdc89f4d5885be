package registry

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Device registers memory: a network card, or what stands in for one in tests.
type Device interface {
	// Name is the one that people know it by.
	Name() string
	// Register pins the size bytes that are mapped at address at, for reading and for writing by the device itself.
	// Transfers name the memory by addresses from as on: at may be unmapped when it returns.
	Register(at, as, size uintptr) (Region, error)
}

// Region is memory that is registered with one device; whoever made the device knows what else it is.
type Region interface {
	// Deregister ends it. When it returns the device does not touch the memory any more, whatever the error.
	Deregister() error
}

// Attached is a device in one registry.
type Attached struct {
	device Device
	number int // its place in the lists of regions; never reused
	gate   gate

	drained <-chan struct{} // guarded by the registry's detaching: the last transfer has ended
}

// Name is the device's.
func (a *Attached) Name() string { return a.device.Name() }

// Attach makes a device known. Nothing is registered with it before it is used: see Acquire and Warm.
func (r *Registry) Attach(d Device) (*Attached, error) {
	r.life.Lock()
	defer r.life.Unlock()
	if r.closed {
		return nil, fail("attach", ErrClosed)
	}
	r.makeSlabs()
	a := &Attached{device: d, number: r.attached}
	r.attached++
	r.devices = append(r.devices, a)
	return a, nil
}

// Detach takes a device away, once its last transfer has ended, with all that is registered with it. ErrInUse: that was not
// before ctx ended; no transfer begins any more, and Detach may be called again.
func (r *Registry) Detach(ctx context.Context, a *Attached) error {
	r.detaching.Lock()
	defer r.detaching.Unlock()
	if a.drained == nil {
		a.drained = a.gate.shut()
	}
	if !wait(ctx, a.drained) {
		return failf("detach", ErrInUse, "%s has %d", a.Name(), a.gate.inside())
	}
	r.life.Lock()
	defer r.life.Unlock()
	index := r.indexOf(a)
	if index < 0 {
		return nil // it was done before
	}
	r.devices = append(r.devices[:index:index], r.devices[index+1:]...)
	var err error
	r.eachSpan(func(s *span) { err = errors.Join(err, s.drop(r, a.number)) })
	return err
}

func (r *Registry) indexOf(a *Attached) int {
	for i, d := range r.devices {
		if d == a {
			return i
		}
	}
	return -1
}

func wait(ctx context.Context, ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
	}
	select {
	case <-ch:
		return true
	case <-ctx.Done():
		return false
	}
}

// register is Device.Register, counted and timed.
func (r *Registry) register(d Device, at, as, size uintptr) (Region, error) {
	start := time.Now()
	region, err := d.Register(at, as, size)
	r.count.time.Add(int64(time.Since(start)))
	if err != nil {
		return nil, r.locks.sys.explain("register with "+d.Name(), err, uint64(size))
	}
	r.count.registered.Add(1)
	return region, nil
}

func (r *Registry) deregister(region Region) error {
	start := time.Now()
	err := region.Deregister()
	r.count.time.Add(int64(time.Since(start)))
	r.count.deregistered.Add(1)
	if err != nil {
		return fail("deregister", fmt.Errorf("%w: %w", ErrSystem, err))
	}
	return nil
}

type counters struct {
	registered, deregistered atomic.Uint64
	time                     atomic.Int64
	slabs                    atomic.Int64 // bytes of slabs that are registered with some device
	bytes, locked            atomic.Int64 // of the caller's ranges
}
