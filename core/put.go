package core

import (
	"errors"

	"moorage/core/arena"
	"moorage/core/arena/cell"
	"moorage/core/index"
	"moorage/core/tensor"
)

// Part is memory to be stored, anywhere in the process.
type Part struct {
	Addr uintptr
	Size uint64
}

// Put stores a copy of data under key.
func (s *Store) Put(key, data []byte, o PutOptions) (PutResult, error) {
	return s.put(key, uint64(len(data)), index.Content{}, o, func(dst uintptr) bool {
		return s.copyIn(dst, data)
	})
}

// PutParts stores a copy of the parts, one behind the other, under key. The memory stays readable until it returns.
func (s *Store) PutParts(key []byte, parts []Part, o PutOptions) (PutResult, error) {
	var size uint64
	for i, p := range parts {
		if size += p.Size; size < p.Size || size > maxObject {
			return PutResult{}, failf("put", ErrInvalid, "parts[%d] with %d bytes makes the object too large", i, p.Size)
		}
	}
	return s.put(key, size, index.Content{}, o, func(dst uintptr) bool {
		for _, p := range parts {
			if !s.copy(dst, p.Addr, uintptr(p.Size)) {
				return false
			}
			dst += uintptr(p.Size)
		}
		return true
	})
}

// PutTensor stores a dense copy of a tensor of any strides under key, in one pass over the source.
func (s *Store) PutTensor(key []byte, src tensor.Source, o PutOptions) (PutResult, error) {
	plan, err := tensor.NewPlan(src)
	if err != nil {
		return PutResult{}, failTensor("put", err)
	}
	var v index.Content
	if !o.AsBytes {
		v = contentOf(src.DType, src.Shape)
	}
	return s.put(key, plan.Bytes(), v, o, func(dst uintptr) bool { return s.gather(&plan, dst) })
}

// maxObject keeps sums of sizes and rounding away from overflow.
const maxObject = 1 << 62

func contentOf(d tensor.DType, shape []int64) index.Content {
	return index.Content{Tensor: true, Code: d.Code, Bits: d.Bits, Lanes: d.Lanes, Shape: shape}
}

func failTensor(op string, err error) error {
	kind := ErrInvalid
	if errors.Is(err, tensor.ErrDType) {
		kind = ErrUnsupported
	}
	return failf(op, kind, "tensor: %w", err)
}

// copy brings n bytes in; false when the store is being closed.
func (s *Store) copy(dst, src, n uintptr) bool {
	if n == 0 {
		return true
	}
	s.counters.copiedIn.Add(uint64(n))
	return s.host.copy(dst, src, n, &s.control.Closing)
}

// gather brings a tensor in, looking at the closing flag between pieces.
func (s *Store) gather(plan *tensor.Plan, dst uintptr) bool {
	if plan.Contiguous() {
		return s.copy(dst, plan.Base(), uintptr(plan.Bytes()))
	}
	size := plan.Bytes()
	s.counters.copiedIn.Add(size)
	for lo := uint64(0); lo < size; lo += copyStep {
		plan.Gather(dst, lo, min(lo+copyStep, size), s.copyRun)
		if s.control.Closing.Load() != 0 {
			return false
		}
	}
	return true
}

// copyRun copies one contiguous run of a gather. A run is short unless the tensor is long rows with gaps, where
// stopping in the middle of a row is left to gather.
func (s *Store) copyRun(dst, src, n uintptr) { s.host.copy(dst, src, n, &s.control.Closing) }

// draft is an object on its way in: record and extent belong to the call until it is published.
type draft struct {
	unit uint32
	c    *cell.Cell
}

// put is the way of every copy in.
func (s *Store) put(key []byte, size uint64, v index.Content, o PutOptions, fill func(dst uintptr) bool) (PutResult, error) {
	if s.tiered != nil {
		return s.putTimed(key, size, v, o, fill)
	}
	return s.copyPut(key, size, v, o, fill)
}

// copyPut allocates, fills, and publishes.
func (s *Store) copyPut(key []byte, size uint64, v index.Content, o PutOptions, fill func(dst uintptr) bool) (PutResult, error) {
	const op = "put"
	v.Key, v.Meta = key, o.Meta
	bytes, err := index.BodyBytes(len(key), len(v.Shape), len(o.Meta))
	if err != nil {
		return PutResult{}, failf(op, ErrInvalid, "%w", err)
	}
	if size > maxObject {
		return PutResult{}, failf(op, ErrInvalid, "size %d", size)
	}
	p := s.at(key)
	if !p.enter(s) {
		return PutResult{}, fail(op, ErrClosed)
	}
	defer p.leave()
	if seen, err := s.seeExisting(op, p, key, o); err != nil || seen.Outcome == Kept {
		return seen, err
	}
	d, err := s.draft(op, p, size, bytes, false)
	if err != nil {
		return PutResult{}, err
	}
	if err := s.heap.WriteBody(d.c.Body, v); err != nil {
		s.drop(d)
		return PutResult{}, failf(op, ErrInvalid, "%w", err)
	}
	if !fill(s.arena.WriterAddr(d.c.Off)) {
		s.drop(d)
		return PutResult{}, fail(op, ErrCancelled)
	}
	d.c.Begin(s.words)
	r, err := s.publish(op, p, key, d, o, nil)
	if err != nil || r.Outcome == Kept {
		s.drop(d)
		return r, err
	}
	return r, nil
}

// seeExisting answers early, before anything is copied, when the key is taken and the caller does not replace.
func (s *Store) seeExisting(op string, p at, key []byte, o PutOptions) (PutResult, error) {
	if o.IfExists == Replace {
		return PutResult{}, nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return s.existing(op, p, key, o)
}

// existing is the verdict on a key that may be taken. The shard is locked.
func (s *Store) existing(op string, p at, key []byte, o PutOptions) (PutResult, error) {
	if o.IfExists == Replace {
		return PutResult{}, nil
	}
	var seq uint64
	if unit := p.table.Lookup(p.tag, key); unit != 0 {
		seq = s.heap.At(unit).Seq
	} else if seq = s.seqOnDisk(key); seq == 0 {
		return PutResult{}, nil
	}
	switch {
	case o.IfExists == Keep:
		return PutResult{Seq: seq, Outcome: Kept}, nil
	default:
		return PutResult{}, failf(op, ErrExists, `key %q; use if_exists="replace" or "keep"`, key)
	}
}

// draft allocates record and extent for size bytes, and room on disk where the store has to promise that.
func (s *Store) draft(op string, p at, size uint64, body int, pages bool) (draft, error) {
	d, err := s.draftOfDisk(op, p, size, body, pages)
	if err == nil {
		if err = s.promise(op, d.unit, size); err != nil {
			s.drop(d)
			return draft{}, err
		}
	}
	return d, err
}

// draftOfDisk is draft for what the disk has already.
func (s *Store) draftOfDisk(op string, p at, size uint64, body int, pages bool) (draft, error) {
	unit, c, err := s.heap.Alloc(int(p.hash), body)
	if err != nil {
		return draft{}, fail(op, classify(err))
	}
	s.outstanding.Add(1)
	e, err := s.room(op, size, pages)
	if err != nil {
		s.heap.Free(unit)
		s.outstanding.Add(-1)
		return draft{}, err
	}
	c.Off, c.Block, c.Bytes = e.Off, e.Block, size
	return draft{unit, c}, nil
}

// drop gives a draft back that was never published.
func (s *Store) drop(d draft) {
	s.fulfil(d.unit)
	_ = s.arena.Free(d.c.Block) // it is ours alone
	s.heap.Free(d.unit)
	s.outstanding.Add(-1)
}

// publish gives a filled object its name and takes it from an old one in the same critical section. link, if there, decides
// under the lock whether the cell may be published at all.
func (s *Store) publish(op string, p at, key []byte, d draft, o PutOptions, link func() error) (PutResult, error) {
	p.mu.Lock()
	r, old, err := s.link(op, p, key, d, o, link)
	size := d.c.Bytes // read while the cell cannot be another's yet
	p.mu.Unlock()
	if err != nil || r.Outcome == Kept {
		return r, err
	}
	if old != 0 {
		s.unlinked(old)
	}
	s.added(evictCandidate(d.unit, r.Seq, size, p.hash))
	s.waits.published(key)
	if s.tiered != nil {
		s.tiered.disk.Remove(key, r.Seq-1) // an older object of that name
	}
	return r, nil
}

// link is the part of publish that stands under the shard's lock. old is the unit that lost its name, 0 if none did; it
// still has its count.
func (s *Store) link(op string, p at, key []byte, d draft, o PutOptions, link func() error) (r PutResult, old uint32, err error) {
	if r, err := s.existing(op, p, key, o); err != nil || r.Outcome == Kept {
		return r, 0, err
	}
	if err := p.table.Reserve(); err != nil {
		return PutResult{}, 0, fail(op, classify(err))
	}
	r = PutResult{Seq: s.seq.Add(1)}
	d.c.Seq = r.Seq // before the cell is alive: a walk over all records reads it from then on
	if link != nil {
		if err := link(); err != nil {
			return PutResult{}, 0, err
		}
	}
	if old = p.table.Lookup(p.tag, key); old != 0 {
		s.inherit(p, old, d.unit)
		p.table.Swap(p.tag, old, d.unit)
	} else {
		_ = p.table.Insert(p.tag, d.unit) // room was reserved
	}
	p.count.puts++
	return r, old, nil
}

// inherit lets the pin of a name go over from one object to another. The shard is locked.
func (s *Store) inherit(p at, from, to uint32) {
	a, b := s.heap.At(from), s.heap.At(to)
	if body := s.heap.BodyAt(a.Body); body.Pinned != 0 {
		s.heap.BodyAt(b.Body).Pinned = 1
		p.count.pin(a.Bytes, false)
		p.count.pin(b.Bytes, true)
	}
}

// unlinked ends the name's count of a cell that no name leads to any more.
func (s *Store) unlinked(unit uint32) {
	s.kill(unit)
	s.policy.removed()
}

func (s *Store) kill(unit uint32) {
	if c := s.heap.At(unit); c.Kill() {
		s.control.Push(s.words, c, unit)
	}
}

// room gets an extent: from free memory, from what came back, by eviction.
func (s *Store) room(op string, size uint64, pages bool) (arena.Extent, error) {
	s.tidy()
	e, err := s.arena.Alloc(size, pages)
	if err == nil {
		return e, nil
	}
	full := func() bool { return errors.Is(err, arena.ErrNoSpace) || errors.Is(err, arena.ErrMemoryLimit) }
	if full() {
		s.drain()
		e, err = s.arena.Alloc(size, pages)
	}
	var unwritten error
	for evict := err != nil && full() && s.couldFit(size); evict && err != nil && full(); {
		if evict, unwritten = s.makeRoom(size); evict {
			s.drain()
			e, err = s.arena.Alloc(size, pages)
		}
	}
	switch {
	case err == nil:
		return e, nil
	case errors.Is(err, arena.ErrNoSpace):
		return arena.Extent{}, fail(op, errors.Join(s.capacityError(size), unwritten))
	default:
		return arena.Extent{}, fail(op, classify(err))
	}
}

// couldFit reports whether eviction can make room at all: a large put that is bound to be refused must not empty the
// store first. For small ones the answer is not worth its price, a walk over all records.
func (s *Store) couldFit(size uint64) bool {
	if !s.policy.on || size > s.opts.Capacity {
		return false
	}
	if size < s.opts.Capacity/16 {
		return true
	}
	s.drains.mu.Lock()
	stays := s.drains.bytes
	s.drains.mu.Unlock()
	held := s.pinnedBytes()
	if s.tiered == nil { // with a disk some of what is viewed is so because it is being written, and may go then
		held = max(held, s.borrowSeen.recent(s))
	}
	return size <= s.opts.Capacity-min(s.opts.Capacity, stays+held)
}

func (s *Store) pinnedBytes() (n uint64) {
	for i := range s.shards {
		p := &s.shards[i]
		p.mu.RLock()
		n += p.count.pinnedBytes
		p.mu.RUnlock()
	}
	return n
}

func (s *Store) capacityError(want uint64) error {
	x := s.arena.Stats()
	e := &CapacityError{
		Want: want, Capacity: s.opts.Capacity, Free: s.opts.Capacity - x.Used, Largest: x.LargestFree,
		Borrowed: s.borrowSeen.recent(s), Pinned: s.pinnedBytes(), Evicting: s.policy.on,
	}
	s.drains.mu.Lock()
	e.Held = s.drains.bytes
	s.drains.mu.Unlock()
	return e
}
