package registry

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// Memory is a store's own: one region.
type Memory interface {
	Size() uint64
	// HugePages makes the slabs larger.
	HugePages() bool
	// Contains gives the offset of an address, of either mapping.
	Contains(addr uintptr) (off uint64, ok bool)
	// WriterAddr is the address by which devices know an offset.
	WriterAddr(off uint64) uintptr
	// Pinnable gives an address at which a part can be pinned for writing, whatever is protected in it, with all its
	// pages there. done takes the address away; what was pinned stays.
	Pinnable(off, n uint64) (addr uintptr, done func() error, err error)
}

const (
	slabSize     = 64 << 20
	hugeSlabSize = 1 << 30
)

// slabs is the memory of the store, in pieces that are registered. There are none before the first device.
type slabs struct {
	memory Memory
	size   uint64
	list   atomic.Pointer[[]span]

	making sync.RWMutex // shared by Guard: slabs do not appear while pages are given back
}

// makeSlabs is called with the first device.
func (r *Registry) makeSlabs() {
	m := r.slabs.memory
	if m == nil || r.slabs.list.Load() != nil {
		return
	}
	r.slabs.making.Lock()
	defer r.slabs.making.Unlock()
	r.slabs.size = slabSize
	if m.HugePages() {
		r.slabs.size = hugeSlabSize
	}
	list := make([]span, (m.Size()+r.slabs.size-1)/r.slabs.size)
	for i := range list {
		off := uint64(i) * r.slabs.size
		list[i].start, list[i].slab = m.WriterAddr(off), true
		list[i].size = uintptr(min(r.slabs.size, m.Size()-off))
		list[i].pin = r.slabs.pin
	}
	r.slabs.list.Store(&list)
}

func (s *slabs) pin(one *span) (uintptr, func() error, error) {
	return s.memory.Pinnable(uint64(one.start-s.memory.WriterAddr(0)), uint64(one.size))
}

// enter goes in by a slab's gate. When that is shut, pages are being given back under the mutex, which does not take long.
func (r *Registry) enter(s *span) bool {
	for closed := r.slabsClosed.Load(); !closed; {
		if s.gate.enter() {
			return true
		}
		s.mu.Lock()
		closed = r.slabsClosed.Load()
		s.mu.Unlock()
	}
	return false
}

// acquireStore gives the pieces of n bytes of the store at off.
func (r *Registry) acquireStore(a *Attached, off, n uint64, pieces []Piece) ([]Piece, error) {
	list, had := *r.slabs.list.Load(), len(pieces)
	for n > 0 {
		s := &list[off/r.slabs.size]
		if !r.enter(s) {
			return undo(pieces, had), fail("acquire", ErrClosed)
		}
		part := min(n, r.slabs.size-off%r.slabs.size)
		p, err := r.piece(a, s, r.slabs.memory.WriterAddr(off), part)
		if err != nil {
			return undo(pieces, had), err
		}
		pieces = append(pieces, p)
		off, n = off+part, n-part
	}
	return pieces, nil
}

// Guard is asked before free pages of the store, n bytes at off, are given back to the system: their slab is deregistered,
// and stays so until done is called. ok is false while a transfer is in flight there, while it is being registered, and
// when it cannot be deregistered: then nothing may be given back, because a device would go on using the old pages.
// It does not wait: who registers a slab may wait for whoever gives pages back.
func (r *Registry) Guard(off, n uint64) (done func(), ok bool) {
	r.slabs.making.RLock()
	list := r.slabs.list.Load()
	if list == nil {
		return r.slabs.making.RUnlock, true
	}
	var shut []*span
	done = func() {
		for _, s := range shut {
			s.gate.reopen()
			s.mu.Unlock()
		}
		r.slabs.making.RUnlock()
	}
	for i := off / r.slabs.size; i <= (off+n-1)/r.slabs.size; i++ {
		s := &(*list)[i]
		if !s.mu.TryLock() {
			done()
			return nil, false
		}
		if !s.gate.shutIfEmpty() {
			s.mu.Unlock()
			done()
			return nil, false
		}
		shut = append(shut, s)
		if s.dropAll(r) != nil {
			done()
			return nil, false
		}
	}
	return done, true
}

// Warm registers all memory of the store with a device ahead of its use, on several threads, until ctx ends.
func (r *Registry) Warm(ctx context.Context, a *Attached) error {
	list := r.slabs.list.Load()
	if list == nil {
		return nil
	}
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	work := func() {
		for ctx.Err() == nil {
			i := next.Add(1) - 1
			if i >= int64(len(*list)) {
				return
			}
			if err := r.warm(a, &(*list)[i]); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				return
			}
		}
	}
	for range min(runtime.GOMAXPROCS(0), len(*list), 8) {
		workers.Go(work)
	}
	workers.Wait()
	if failed == nil && ctx.Err() != nil {
		return fail("warm", ctx.Err())
	}
	return failed
}

func (r *Registry) warm(a *Attached, s *span) error {
	var one [1]Piece
	off := uint64(s.start - r.slabs.memory.WriterAddr(0))
	pieces, err := r.acquireStore(a, off, 1, one[:0])
	undo(pieces, 0)
	return err
}

// CloseMemory deregisters the memory of the store, before it is unmapped. ErrInUse: a transfer is in flight that held no
// view; the memory must stay.
func (r *Registry) CloseMemory() error {
	r.slabsClosed.Store(true)
	list := r.slabs.list.Load()
	if list == nil {
		return nil
	}
	var err error
	for i := range *list {
		s := &(*list)[i]
		s.mu.Lock()
		if s.gate.shutIfEmpty() {
			err = errors.Join(err, s.dropAll(r))
		} else if s.gate.inside() > 0 {
			err = errors.Join(err, failf("close", ErrInUse, "slab at %d bytes", uint64(i)*r.slabs.size))
		}
		s.mu.Unlock()
	}
	return err
}
