package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// Device registers memory: a network card, or what stands in for one in tests.
type Device interface {
	// Name is the one that people know it by.
	Name() string
	// Register pins the size bytes that are mapped at address at, for that use. Transfers name the memory by addresses from as
	// on: at may be unmapped when it returns, unless it is as.
	Register(at, as, size uintptr, use Use) (Region, error)
}

// Use is what memory is registered for.
type Use uint8

// The two uses, which may be combined. There is none that lets a peer write.
const (
	Send    Use = 1 << iota // peers read it
	Receive                 // the device itself writes what it reads from peers
)

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
	count  deviceCounters

	drained <-chan struct{} // guarded by the registry's detaching: the last transfer has ended
}

// Device is what was attached.
func (a *Attached) Device() Device { return a.device }

// Name is the device's.
func (a *Attached) Name() string { return a.device.Name() }

// DeviceStats is what one device has registered of one registry.
type DeviceStats struct {
	Name         string
	Regions      uint64        // at the moment
	Bytes        uint64        // in them
	Registered   uint64        // how often memory was registered
	Deregistered uint64        // and how often that ended
	Time         time.Duration // spent in both
}

// Stats gives the figures of the device. They are not of one moment.
func (a *Attached) Stats() DeviceStats {
	ended := a.count.deregistered.Load() // before the other, so that no difference is below zero
	made := a.count.registered.Load()
	return DeviceStats{Name: a.Name(), Regions: made - ended, Bytes: uint64(a.count.bytes.Load()), Registered: made,
		Deregistered: ended, Time: time.Duration(a.count.time.Load())}
}

// Devices are those that are attached, in the order in which they were.
func (r *Registry) Devices() []*Attached {
	r.life.RLock()
	defer r.life.RUnlock()
	return slices.Clone(r.devices)
}

// Attach makes a device known. Nothing is registered with it before it is used: see Acquire and Warm. If it can be closed, it
// belongs to the registry from now on: Detach and CloseDevices close it.
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
	had, err := r.forget(a)
	if !had {
		return nil // it was done before
	}
	return errors.Join(err, a.close())
}

// forget deregisters everything with a device, and takes it out.
func (r *Registry) forget(a *Attached) (had bool, err error) {
	r.life.Lock()
	defer r.life.Unlock()
	index := r.indexOf(a)
	if index < 0 {
		return false, nil
	}
	r.devices = append(r.devices[:index:index], r.devices[index+1:]...)
	r.eachSpan(func(s *span) { err = errors.Join(err, s.drop(r, a.number)) })
	return true, err
}

func (a *Attached) close() error {
	if c, ok := a.device.(io.Closer); ok {
		if err := c.Close(); err != nil {
			return fail("close "+a.Name(), err)
		}
	}
	return nil
}

// CloseDevices closes all devices, in the end: after Close and CloseMemory. What transfers are left end with an error.
func (r *Registry) CloseDevices() error {
	r.life.Lock()
	all := r.devices
	r.devices = nil
	r.life.Unlock()
	var err error
	for _, a := range all {
		err = errors.Join(err, a.close())
	}
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
func (r *Registry) register(a *Attached, at, as, size uintptr, use Use) (*held, error) {
	start := time.Now()
	region, err := a.device.Register(at, as, size, use)
	r.spent(a, start)
	if err != nil {
		return nil, r.locks.sys.explain("register with "+a.Name(), err, uint64(size))
	}
	r.count.registered.Add(1)
	a.count.registered.Add(1)
	a.count.bytes.Add(int64(size))
	return &held{region, a, size}, nil
}

func (r *Registry) deregister(h *held) error {
	start := time.Now()
	err := h.region.Deregister()
	r.spent(h.on, start)
	r.count.deregistered.Add(1)
	h.on.count.bytes.Add(-int64(h.size))
	h.on.count.deregistered.Add(1)
	if err != nil {
		return fail("deregister", fmt.Errorf("%w: %w", ErrSystem, err))
	}
	return nil
}

func (r *Registry) spent(a *Attached, start time.Time) {
	d := int64(time.Since(start))
	r.count.time.Add(d)
	a.count.time.Add(d)
}

// held is memory that a device has registered.
type held struct {
	region Region
	on     *Attached
	size   uintptr
}

type deviceCounters struct {
	registered, deregistered atomic.Uint64
	bytes, time              atomic.Int64
}

type counters struct {
	registered, deregistered atomic.Uint64
	time                     atomic.Int64
	slabs                    atomic.Int64 // bytes of slabs that are registered with some device
	bytes, locked            atomic.Int64 // of the caller's ranges
}
