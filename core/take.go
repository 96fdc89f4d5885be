package core

import (
	"errors"

	"moorage/core/tier/timing"
)

// Take removes key and hands its bytes over, exclusive and writable, without a copy. ErrBusy while anybody views the
// object or a forked child holds it. A pin does not matter. The returned view is the taker's; its address to write
// to is WriterAddr.
//
// With a disk it returns when the removal is as durable as the store was asked to make removals. If it cannot be made so the
// object is put back, and the error says why.
func (s *Store) Take(key []byte) (v View, err error) {
	const op = "take"
	p := s.at(key)
	if !p.enter(s) {
		return View{}, fail(op, ErrClosed)
	}
	defer p.leave()
	if s.tiered == nil {
		p.mu.Lock()
		return s.take(op, p, key)
	}
	r := timing.Queued(timing.Remove, 0)
	defer func() { s.tiered.recordFound(&r, err) }()
	if v, err = s.takeOfDisk(op, p, key); err != nil {
		return View{}, err
	}
	r.Bytes = v.Size()
	if err = s.settled(op, &r); err != nil {
		return View{}, s.putBack(op, v, err)
	}
	return v, nil
}

// takeOfDisk brings the object into memory before it takes it. A view that is there because the object is being written will end.
func (s *Store) takeOfDisk(op string, p at, key []byte) (View, error) {
	for {
		if s.onDisk(key) {
			v, err := s.bring(key)
			if err != nil {
				return View{}, err
			}
			v.Release()
		}
		p.mu.Lock()
		unit := p.table.Lookup(p.tag, key)
		if unit == 0 && s.onDisk(key) {
			p.mu.Unlock() // evicted again already
			continue
		}
		wait := s.tiered.demotions.isWriting(unit)
		v, err := s.take(op, p, key)
		if !wait || !errors.Is(err, ErrBusy) {
			return v, err
		}
		s.tiered.demotions.await(unit)
	}
}

// putBack stores what was taken again, unless somebody else has put something there, and gives the error of the taking.
func (s *Store) putBack(op string, v View, why error) error {
	defer v.Release()
	_, err := s.copyPut(v.Key(), v.Size(), v.content(), PutOptions{IfExists: Keep, Meta: v.Meta()}, func(dst uintptr) bool {
		return s.copy(dst, v.Addr(), uintptr(v.Size()))
	})
	if err != nil {
		return failf(op, ErrDisk, "key %q: the object is lost, it could not be put back (%w) when its removal from the disk failed: %w",
			v.Key(), err, why)
	}
	return why
}

// take is the part of Take under the shard's lock, which it gives back.
func (s *Store) take(op string, p at, key []byte) (View, error) {
	unit := p.table.Lookup(p.tag, key)
	if unit == 0 {
		p.mu.Unlock()
		return View{}, ErrNotFound
	}
	v := View{s, s.heap.At(unit), unit}
	if err := s.takeLocked(op, p, v); err != nil {
		p.mu.Unlock()
		return View{}, err
	}
	p.table.Delete(p.tag, unit)
	s.removeOnDisk(key)
	p.count.removes++
	p.mu.Unlock()
	s.reserved.forget(v.c.Off, unit) // its bytes are the taker's now; put back, they are copied like any tensor's
	s.policy.removed()
	return v, nil
}

// takeLocked turns the name's count into the taker's view. Under the shard's write lock nobody can begin a view, so a
// cell that is idle stays so.
func (s *Store) takeLocked(op string, p at, v View) error {
	c := v.c
	if !c.Idle() {
		return failf(op, ErrBusy, "%d views are held; release them or use get_tensor(mode=\"copy\")", c.Views())
	}
	if c.HeldByChild(s.words) {
		return failf(op, ErrBusy, "a forked child may still read it; wait for the child or use get_tensor(mode=\"copy\")")
	}
	if !s.unprotect(c) {
		return failf(op, ErrSystem, "the pages could not be made writable")
	}
	if !c.Take(s.words) {
		return failf(op, ErrBusy, "views are held")
	}
	if b := v.body(); b.Pinned != 0 {
		p.count.pin(c.Bytes, false)
	}
	return nil
}

// WriterAddr is the address of the bytes in writable memory: for a view that Take gave, and for nobody else.
func (v View) WriterAddr() uintptr { return v.s.arena.WriterAddr(v.c.Off) }
