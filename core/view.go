package core

import (
	"moorage/core/arena/cell"
	"moorage/core/index"
	"moorage/core/tensor"
	"moorage/core/tier/timing"
)

// View is a counted borrow of an object's bytes for reading. It belongs to whoever got it: use it from one
// goroutine at a time, and do not copy it after the first Release. The zero View is released.
type View struct {
	s    *Store
	c    *cell.Cell
	unit uint32
}

// GetResident borrows the object under key if memory has it; ErrNotResident if only the disk does. No allocation, no copy, no
// waiting; the errors come unwrapped.
func (s *Store) GetResident(key []byte) (View, error) {
	if s.tiered != nil {
		return s.getTimed(timing.Get, key, 0)
	}
	return s.get(key)
}

func (s *Store) get(key []byte) (View, error) {
	p := s.at(key)
	if !p.enter(s) {
		return View{}, ErrClosed
	}
	p.mu.RLock()
	unit := p.table.Lookup(p.tag, key)
	if unit == 0 {
		p.mu.RUnlock()
		err := s.absent(p, key)
		p.leave()
		return View{}, err
	}
	c := s.heap.At(unit)
	c.Acquire(s.words)
	if s.policy.on {
		c.Touch()
	}
	p.mu.RUnlock()
	p.gets.Add(1)
	p.leave()
	return View{s, c, unit}, nil
}

// absent says why memory has no object under key.
func (s *Store) absent(p at, key []byte) error {
	if s.tiered != nil && s.tiered.disk.Has(key) {
		return ErrNotResident
	}
	p.misses.Add(1)
	return ErrNotFound
}

// Release ends the view. It may be called on a released view, and after the store was closed.
func (v *View) Release() {
	c := v.c
	if c == nil {
		return
	}
	s, unit := v.s, v.unit
	*v = View{}
	if c.Release(s.words) {
		s.control.Push(s.words, c, unit)
	}
}

// Size is the length of the object in bytes.
func (v View) Size() uint64 { return v.c.Bytes }

// Seq is the number of the commit that published the object.
func (v View) Seq() uint64 { return v.c.Seq }

// Addr is the address of the bytes in read-only memory, valid until Release.
func (v View) Addr() uintptr { return v.s.arena.ReaderAddr(v.c.Off) }

// DType is the dtype; none for plain bytes.
func (v View) DType() tensor.DType { return dtypeOf(v.body()) }

// Shape is the shape, empty for plain bytes and for a tensor of no dimensions; valid until Release.
func (v View) Shape() []int64 { return index.Shape(v.body()) }

// Key is the key under which the object was published; valid until Release.
func (v View) Key() []byte { return index.Key(v.body()) }

// Meta is the user metadata; valid until Release.
func (v View) Meta() []byte { return index.Meta(v.body()) }

// IsTensor says whether the object has a dtype and a shape.
func (v View) IsTensor() bool { return v.body().Tensor != 0 }

func (v View) body() *cell.Body { return v.s.heap.BodyAt(v.c.Body) }

func dtypeOf(b *cell.Body) tensor.DType {
	return tensor.DType{Code: b.DCode, Bits: b.DBits, Lanes: b.DLanes}
}
