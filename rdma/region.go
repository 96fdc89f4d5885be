package rdma

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"syscall"

	"moorage/rdma/internal/ibv"
)

// Access is what registered memory may be used for. There is no value that lets a peer write.
type Access uint32

// The two uses, which may be combined.
const (
	LocalTarget Access = ibv.AccessLocalWrite // our reads may go there
	RemoteRead  Access = ibv.AccessRemoteRead // peers may read it, all of it
)

const pageSize = 4096 // the smallest there is

// registered is how many bytes this process has registered.
var registered atomic.Uint64

// Region is registered memory.
type Region struct {
	domain *Domain
	mr     ibv.MR
	addr   uint64
	length uint64
	access Access

	mu      sync.Mutex
	holds   int           // reads that go there
	closing bool          // no new ones
	idle    chan struct{} // closed when the last hold ends, while closing
	ended   bool
}

// RemoteRegion describes a Region to a peer. It is a value: send it in any way that only the peer sees.
type RemoteRegion struct {
	Addr   uint64
	Length uint64
	RKey   uint32
	Epoch  uint64 // of the Domain; a restarted process has another
}

// Register registers [addr, addr+length) of this process. It may take seconds for gigabytes.
func (d *Domain) Register(addr, length uintptr, access Access) (*Region, error) {
	return d.RegisterAs(addr, addr, length, access)
}

// MaxRegister is the most that can be registered at once.
func (d *Domain) MaxRegister() uint64 { return d.attr.MaxMRSize }

// RegisterAs registers what is mapped at address at, but by the name of addr: peers are told that address, and the mapping
// at the other may go when it returns, as long as the pages stay. Both lie equally in their pages.
func (d *Domain) RegisterAs(at, addr, length uintptr, access Access) (*Region, error) {
	switch {
	case at == 0 || addr == 0 || length == 0:
		return nil, invalidf("addr and length must not be zero")
	case uint64(length) > math.MaxUint64-uint64(addr) || uint64(length) > math.MaxUint64-uint64(at):
		return nil, invalidf("addr + length overflows")
	case (at^addr)%pageSize != 0:
		return nil, invalidf("at and addr must lie equally in their pages")
	case uint64(length) > d.attr.MaxMRSize:
		return nil, invalidf("length %d is more than the device registers at once (%d)", length, d.attr.MaxMRSize)
	case access == 0 || access&^(LocalTarget|RemoteRead) != 0:
		return nil, invalidf("access must be LocalTarget, RemoteRead, or both")
	}
	leave, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	mr, err := d.verbs.Register(d.pd, at, addr, length, uint32(access))
	if err != nil {
		return nil, registrationError(uint64(length), err)
	}
	registered.Add(uint64(length))
	r := &Region{domain: d, mr: mr, addr: mr.Addr, length: uint64(length), access: access}
	d.mu.Lock()
	d.regions[r] = struct{}{}
	d.mu.Unlock()
	return r, nil
}

func registrationError(asked uint64, err error) error {
	if errors.Is(err, syscall.EFAULT) {
		return fmt.Errorf("%w: the range is not mapped, or cannot be written: %w", ErrInvalid, err)
	}
	return &MemoryError{Asked: asked, Registered: registered.Load(), Limit: memlockLimit(), Err: err}
}

// Remote describes the region to peers. Without RemoteRead they cannot read it.
func (r *Region) Remote() RemoteRegion {
	return RemoteRegion{Addr: r.addr, Length: r.length, RKey: r.mr.RKey, Epoch: r.domain.epoch}
}

// Length is the number of bytes.
func (r *Region) Length() uint64 { return r.length }

// hold keeps the region registered for n reads.
func (r *Region) hold(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing || r.ended {
		return fmt.Errorf("region: %w", ErrClosed)
	}
	r.holds += n
	return nil
}

func (r *Region) release(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds -= n
	if r.holds == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// Close ends the registration, after waiting for reads into the region. When it returns nil, no card knows the memory any more;
// a peer that reads it gets an error. Otherwise the region is as before: ErrBusy says that ctx ended before the reads did.
func (r *Region) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return nil
	}
	if r.closing {
		r.mu.Unlock()
		return fmt.Errorf("region: %w", ErrBusy)
	}
	r.closing = true
	var idle chan struct{}
	if r.holds > 0 {
		idle = make(chan struct{})
		r.idle = idle
	}
	r.mu.Unlock()

	err := r.awaitIdle(ctx, idle)
	if err == nil {
		err = r.domain.deregister(r)
	}
	r.mu.Lock()
	r.closing, r.idle = false, nil
	r.ended = err == nil
	r.mu.Unlock()
	return err
}

func (r *Region) awaitIdle(ctx context.Context, idle chan struct{}) error {
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

func (d *Domain) deregister(r *Region) error {
	if err := d.verbs.Deregister(r.mr); err != nil {
		return fmt.Errorf("%w: %w", ErrQuarantined, called("ibv_dereg_mr", err))
	}
	registered.Add(-r.length)
	d.mu.Lock()
	delete(d.regions, r)
	d.mu.Unlock()
	return nil
}
