package core

import (
	"errors"
	"runtime"
	"sync"

	"moorage/core/arena/cell"
	"moorage/core/index"
	"moorage/core/tensor"
	"moorage/core/tier/timing"
)

// maxProtected is how many extents of a process may have their writer's pages read-only at a time: each may cost two
// entries of the kernel's list of mappings, whose usual limit is 65 530. What waits in the park of the region costs none.
const maxProtected = 16 << 10

// reservations are the extents that producers have, by offset, from Reserve until the cell goes home: a producer's
// tensor is recognised by its address, before it is adopted and after.
type reservations struct {
	mu sync.Mutex
	at map[uint64]*reservation
}

type reservation struct {
	unit    uint32
	c       *cell.Cell
	size    uint64 // bytes asked for
	taken   bool   // a commit is under way, or was done
	adopted bool
}

func (r *reservations) init() { r.at = map[uint64]*reservation{} }

func (r *reservations) add(off uint64, v *reservation) {
	r.mu.Lock()
	r.at[off] = v
	r.mu.Unlock()
}

// forget is called when a cell goes home.
func (r *reservations) forget(off uint64, unit uint32) {
	r.mu.Lock()
	if v := r.at[off]; v != nil && v.unit == unit {
		delete(r.at, off)
	}
	r.mu.Unlock()
}

// size is what was asked for.
func (r *reservations) size(c *cell.Cell) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.at[c.Off]; v != nil && v.c == c {
		return v.size
	}
	return 0
}

// begin claims the reservation at off for one commit and holds its cell, which end and a release undo: a producer who
// lets go meanwhile must not have the cell go home, and be used again, under the commit. Nil: there is none.
func (r *reservations) begin(off uint64) (*reservation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.at[off]
	if v == nil {
		return nil, nil
	}
	if v.taken {
		return nil, ErrAlreadyAdopted
	}
	if !v.c.Retain() {
		return nil, nil // its producer has let it go; the drain has not met it yet
	}
	v.taken = true
	return v, nil
}

func (r *reservations) end(v *reservation, adopted bool) {
	r.mu.Lock()
	v.taken, v.adopted = adopted, adopted
	r.mu.Unlock()
}

// Published reports whether some of these bytes, at the address of a producer, belong to an object by now: they may
// not be written to any more.
func (h *Host) Published(addr uintptr, size uint64) (published bool) {
	h.each(func(s *Store) { published = published || s.published(addr, size) })
	return published
}

func (s *Store) published(addr uintptr, size uint64) bool {
	s.reserved.mu.Lock()
	defer s.reserved.mu.Unlock()
	for off, v := range s.reserved.at {
		at := s.arena.WriterAddr(off)
		if v.adopted && addr < at+uintptr(v.size) && at < addr+uintptr(size) {
			return true
		}
	}
	return false
}

// WriteBuffer is memory of a store that has no name yet. It belongs to its producer, who writes to it until Commit
// or Abort; dropping it unfinished leaves that to the garbage collector.
type WriteBuffer struct {
	s       *Store
	view    View // the producer's count
	cleanup runtime.Cleanup
}

// Reserve gives size bytes of whole pages, not zeroed.
func (s *Store) Reserve(size uint64) (*WriteBuffer, error) {
	v, err := s.reserve(size)
	if err != nil {
		return nil, err
	}
	w := &WriteBuffer{s: s, view: v}
	w.cleanup = runtime.AddCleanup(w, func(v View) { v.Release() }, v)
	return w, nil
}

func (s *Store) reserve(size uint64) (View, error) {
	const op = "reserve"
	p := s.anyShard()
	if !p.enter(s) {
		return View{}, fail(op, ErrClosed)
	}
	defer p.leave()
	if size > maxObject {
		return View{}, failf(op, ErrInvalid, "size %d", size)
	}
	d, err := s.draft(op, p, size, 0, true)
	if err != nil {
		return View{}, err
	}
	s.reserved.add(d.c.Off, &reservation{unit: d.unit, c: d.c, size: size})
	d.c.BeginOpen(s.words)
	return View{s, d.c, d.unit}, nil
}

// anyShard is the stripe of the call gate for calls without a key; reservations spread over the stripes of record memory by
// their number.
func (s *Store) anyShard() at {
	n := uint64(s.outstanding.Load())
	return at{shard: &s.shards[n%index.Shards], hash: n}
}

// Addr is the address of the bytes, valid until Commit or Abort.
func (w *WriteBuffer) Addr() uintptr { return w.s.arena.WriterAddr(w.view.c.Off) }

// Size is what was reserved.
func (w *WriteBuffer) Size() uint64 { return w.view.c.Bytes }

// Raw hands the producer's count over to C, which ends it. w is finished by it.
func (w *WriteBuffer) Raw(r *Raw) {
	w.s.raw(&w.view, r, w.Addr())
	w.done()
}

func (w *WriteBuffer) done() {
	w.cleanup.Stop()
	w.view = View{}
}

// Commit publishes the whole buffer as plain bytes, or its beginning as a tensor when dt is a dtype. After Stored or
// Adopted the buffer is finished, after Kept and after an error it is still open. A producer that goes on
// writing dies, unless o.NoProtect is set.
func (w *WriteBuffer) Commit(key []byte, dt tensor.DType, shape []int64, o PutOptions) (PutResult, error) {
	if w.view.c == nil {
		return PutResult{}, fail("commit", ErrAlreadyAdopted)
	}
	size, v, err := w.view.c.Bytes, index.Content{}, error(nil)
	if !dt.None() {
		if size, err = tensor.Bytes(dt, shape); err != nil {
			return PutResult{}, failTensor("commit", err)
		}
		v = contentOf(dt, shape)
	}
	r, err := w.s.commit("commit", w.view.c.Off, key, size, v, o)
	if err == nil && r.Outcome != Kept {
		v := w.view
		w.done()
		v.Release()
	}
	return r, err
}

// Abort gives the memory back. Further calls do nothing.
func (w *WriteBuffer) Abort() {
	v := w.view
	w.done()
	v.Release()
}

// Adopt publishes the tensor that a producer made over a reservation, without a copy if it covers what was reserved and is
// dense; otherwise it is copied and counted. The caller holds the producer's count until it returns.
func (s *Store) Adopt(key []byte, src tensor.Source, o PutOptions) (PutResult, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return PutResult{}, fail("adopt", ErrClosed)
	}
	defer gate.leave()
	size, err := tensor.Bytes(src.DType, src.Shape)
	if err != nil {
		return PutResult{}, failTensor("adopt", err)
	}
	// A producer writes, so its address is the writer's: a view of what was adopted is copied like any other tensor.
	off, ours := s.arena.Contains(src.Base)
	ours = ours && src.Base == s.arena.WriterAddr(off)
	if !ours || !tensor.Dense(src.Shape, src.Strides) || !s.reserved.covers(off, size) {
		return s.adoptCopy(key, src, o)
	}
	r, err := s.commit("adopt", off, key, size, contentOf(src.DType, src.Shape), o)
	if errors.Is(err, errNotProtected) {
		return s.adoptCopy(key, src, o)
	}
	return r, err
}

// covers reports whether size bytes are all of the reservation at off.
func (r *reservations) covers(off, size uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.at[off]
	return v != nil && v.size == size
}

func (s *Store) adoptCopy(key []byte, src tensor.Source, o PutOptions) (PutResult, error) {
	r, err := s.PutTensor(key, src, o)
	if err == nil && r.Outcome == Stored {
		s.counters.adoptCopies.Add(1)
	}
	return r, err
}

// errNotProtected says that the producer's pages cannot be made read-only without bringing the process near its limit of
// mappings.
var errNotProtected = errors.New("too many protected extents: copy instead, or commit without protection")

// commit publishes the reservation at off. Its pages become read-only before it has a name, so that what readers see
// cannot change any more.
func (s *Store) commit(op string, off uint64, key []byte, size uint64, v index.Content, o PutOptions) (r PutResult, err error) {
	var t timing.Record
	if s.tiered != nil {
		t = timing.Queued(timing.Put, 0)
		t.Bytes = size
		defer func() {
			if !errors.Is(err, errNotProtected) { // it will be copied
				s.tiered.record(&t, err)
			}
		}()
	}
	v.Key, v.Meta = key, o.Meta
	body, err := index.BodyBytes(len(key), len(v.Shape), len(o.Meta))
	if err != nil {
		return PutResult{}, failf(op, ErrInvalid, "%w", err)
	}
	p := s.at(key)
	if !p.enter(s) {
		return PutResult{}, fail(op, ErrClosed)
	}
	defer p.leave()
	if seen, err := s.seeExisting(op, p, key, o); err != nil || seen.Outcome == Kept {
		return seen, err
	}
	res, err := s.reserved.begin(off)
	if err != nil {
		return PutResult{}, fail(op, err)
	}
	if res == nil {
		return PutResult{}, failf(op, ErrInvalid, "no reservation at this address")
	}
	r, err = s.commitClaimed(op, p, res, key, size, v, body, o)
	s.reserved.end(res, err == nil && r.Outcome == Adopted)
	held := View{s, res.c, res.unit}
	held.Release()
	if err == nil && r.Outcome == Adopted {
		err = s.through(op, key, &t)
	}
	return r, err
}

func (s *Store) commitClaimed(op string, p at, res *reservation, key []byte, size uint64, v index.Content, body int, o PutOptions) (PutResult, error) {
	if size > res.size {
		return PutResult{}, failf(op, ErrInvalid, "shape needs %d bytes, %d were reserved", size, res.size)
	}
	c := res.c
	unit, _, err := s.heap.AllocBody(int(p.hash), body)
	if err != nil {
		return PutResult{}, fail(op, classify(err))
	}
	if err := s.heap.WriteBody(unit, v); err != nil {
		s.heap.FreeBody(unit)
		return PutResult{}, failf(op, ErrInvalid, "%w", err)
	}
	if err := s.protect(op, c, o); err != nil {
		s.heap.FreeBody(unit)
		return PutResult{}, err
	}
	c.Body, c.Bytes = unit, size
	r, err := s.publish(op, p, key, draft{res.unit, c}, o, func() error {
		if !c.Commit() {
			return fail(op, ErrAlreadyAdopted)
		}
		return nil
	})
	if err != nil || r.Outcome == Kept {
		c.Body, c.Bytes = 0, res.size
		s.heap.FreeBody(unit)
		s.unprotect(c) // refused: stays protected until the cell goes home; the producer may only read then
		return r, err
	}
	r.Outcome = Adopted
	s.counters.adoptions.Add(1)
	return r, nil
}

func (s *Store) protect(op string, c *cell.Cell, o PutOptions) error {
	c.Flags |= cell.FlagAdopted
	if o.NoProtect || c.Flags&cell.FlagProtected != 0 {
		return nil
	}
	if n := s.host.protected.Add(1); n > maxProtected {
		s.host.protected.Add(-1)
		return failf(op, ErrMemory, "%w (%d)", errNotProtected, maxProtected)
	}
	if err := s.arena.Protect(c.Off, s.arena.Len(c.Block)); err != nil {
		s.host.protected.Add(-1)
		return failf(op, ErrMemory, "%w: %w", errNotProtected, err)
	}
	s.counters.protected.Add(1)
	c.Flags |= cell.FlagProtected
	return nil
}

// ReserveTensor reserves the bytes of a tensor.
func (s *Store) ReserveTensor(dt tensor.DType, shape []int64) (*WriteBuffer, error) {
	size, err := tensor.Bytes(dt, shape)
	if err != nil {
		return nil, failTensor("reserve", err)
	}
	return s.Reserve(size)
}
