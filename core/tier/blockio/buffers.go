package blockio

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"moorage/core/registry"
	"moorage/core/tier/uring"
)

// An engine is a device that memory is registered with.
var _ registry.Device = (*Engine)(nil)

// partSize is the most that one place of a ring's table can hold. Tests have it smaller.
const partSize = 1 << 30

// table is the registered memory of all rings. They all have the same in the same place.
type table struct {
	places places
	part   uintptr // what a place holds at most

	mu      sync.Mutex // who changes the rings' tables
	noClone bool       // the kernel cannot copy a ring's table to another
}

// Region is memory that an engine knows. Nothing in flight uses it when it is deregistered.
type Region struct {
	engine       *Engine
	at, as, size uintptr
	parts        []uint16 // places, of partSize each; none: it is not registered, and is moved on the path Uring
}

// Registered says whether the kernel has the memory pinned, so that the path can be UringFixed.
func (g *Region) Registered() bool { return len(g.parts) > 0 }

// Register pins memory in all rings. Where the kernel refuses (RLIMIT_MEMLOCK, a full table, memory that cannot be pinned)
// there is a region nevertheless, which is not registered; that is counted, and logged once.
func (e *Engine) Register(at, as, size uintptr, _ registry.Use) (registry.Region, error) {
	const op = "register"
	if at == 0 || size == 0 || at+size < at || as+size < as {
		return nil, fail(op, fmt.Errorf("%w: %d bytes at address 0x%x", ErrInvalid, size, at))
	}
	if !e.life.TryRLock() {
		return nil, fail(op, ErrClosed)
	}
	defer e.life.RUnlock()
	g := &Region{engine: e, at: at, as: as, size: size}
	if e.rings == nil || e.table.places.size == 0 {
		return g, nil // there is nothing to register with, as was said before
	}
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	if err := e.pin(g); err != nil {
		e.without("register", fmt.Sprintf("memory is not registered with io_uring, and is pinned for each chunk instead "+
			"(raise RLIMIT_MEMLOCK if it is that): %d bytes: %v", size, err))
		_ = e.unpin(g) // what was pinned of it
		return g, nil
	}
	e.count.registered.Add(int64(size))
	return g, nil
}

var errTableFull = errors.New("all places for registered memory are taken")

// pin registers a region part by part with the first ring, then gives the others the same. table.mu is locked.
func (e *Engine) pin(g *Region) error {
	first := e.rings[0]
	for off := uintptr(0); off < g.size; off += e.table.part {
		place, ok := e.table.places.take()
		if !ok {
			return errTableFull
		}
		g.parts = append(g.parts, uint16(place))
		if err := first.SetBuffer(place, g.at+off, min(e.table.part, g.size-off)); err != nil {
			return err
		}
	}
	for _, r := range e.rings[1:] {
		if err := e.copyTable(first, r, g); err != nil {
			return err
		}
	}
	return nil
}

// copyTable gives a ring what another has, at no cost per page, or, on kernels that cannot, pins once more.
func (e *Engine) copyTable(from, to *uring.Ring, g *Region) error {
	if !e.table.noClone {
		err := to.CloneBuffers(from)
		if err == nil || !unsupported(err) {
			return err
		}
		e.table.noClone = true
	}
	for i, place := range g.parts {
		off := uintptr(i) * e.table.part
		if err := to.SetBuffer(int(place), g.at+off, min(e.table.part, g.size-off)); err != nil {
			return err
		}
	}
	return nil
}

// unpin takes a region's parts out of all rings. table.mu is locked.
func (e *Engine) unpin(g *Region) (err error) {
	for _, place := range g.parts {
		for _, r := range e.rings {
			err = errors.Join(err, r.SetBuffer(int(place), 0, 0))
		}
		e.table.places.give(int(place))
	}
	g.parts = nil
	return err
}

// Deregister ends it.
func (g *Region) Deregister() error {
	e := g.engine
	if !g.Registered() {
		return nil
	}
	if !e.life.TryRLock() {
		<-e.ended // with the rings
		return nil
	}
	defer e.life.RUnlock()
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.count.registered.Add(-int64(g.size))
	if err := e.unpin(g); err != nil {
		return fail("deregister", err)
	}
	return nil
}

// unsupported reports whether the kernel does not know a kind of registering, or not in this form.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY)
}

// covers reports whether memory lies in the region, all of it.
func (g *Region) covers(addr uintptr, n int) bool {
	return addr >= g.as && uintptr(n) <= g.size && addr-g.as <= g.size-uintptr(n)
}
