package core

import (
	"unsafe"

	"moorage/core/index"
)

// Bytes is the object's bytes in read-only memory: a write is a fault. Valid until Release.
func (v View) Bytes() []byte {
	return bytesAt(v.Addr(), v.c.Bytes)
}

// Raw is a view as C takes it over. From then on C ends it, by the same steps as Release. Addresses are integers; those
// of Shape and Meta lie inside the record. capi/layout.h declares the same bytes (moor_hold), and Go writes them where C
// wants them: copying so much cost as much as the look-up.
type Raw struct {
	Cell, Control  uintptr
	Region         uintptr // left to the caller
	Data           uintptr // address of the bytes
	Size, Off, Seq uint64  // Off: of the bytes in the region
	Shape, Meta    uintptr
	MetaSize, Unit uint32
	NDim           int32
	Flags          uint32 // RawTensor
	Code, Bits     uint8
	Lanes          uint16
	_              uint32
}

// RawTensor says that the dtype and the shape are those of a tensor.
const RawTensor = 1

// Raw hands the view over, in whole: v itself must not be released after it.
func (v View) Raw(r *Raw) { v.s.raw(&v, r, v.Addr()) }

func (s *Store) raw(v *View, r *Raw, data uintptr) {
	c := v.c
	r.Cell, r.Control, r.Unit = uintptr(unsafe.Pointer(c)), uintptr(unsafe.Pointer(s.control)), v.unit
	r.Data, r.Size, r.Off, r.Seq = data, c.Bytes, c.Off, c.Seq
	if c.Body == 0 {
		r.Shape, r.Meta, r.MetaSize, r.NDim, r.Flags = 0, 0, 0, 0, 0
		return
	}
	b := s.heap.BodyAt(c.Body)
	shape, meta := index.Shape(b), index.Meta(b)
	r.Shape, r.NDim = uintptr(unsafe.Pointer(unsafe.SliceData(shape))), int32(len(shape))
	r.Meta, r.MetaSize = uintptr(unsafe.Pointer(unsafe.SliceData(meta))), uint32(len(meta))
	r.Code, r.Bits, r.Lanes = b.DCode, b.DBits, b.DLanes
	r.Flags = 0
	if b.Tensor != 0 {
		r.Flags = RawTensor
	}
}

// bytesAt is memory outside the Go heap as a slice.
func bytesAt(addr uintptr, n uint64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}

// RecordDirectory is where the records of all objects are listed, for the code that names an object while the process dies.
func (s *Store) RecordDirectory() uintptr { return s.heap.Directory() }
