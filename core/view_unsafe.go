package core

import (
	"unsafe"

	"moorage/core/index"
)

// Bytes is the object's bytes in read-only memory: a write is a fault. Valid until Release.
func (v View) Bytes() []byte {
	return bytesAt(v.Addr(), v.c.Bytes)
}

// Raw is a view as C takes it over. From then on C ends it, by the same steps as Release.
type Raw struct {
	Cell, Control uintptr
	Unit          uint32
	Data          uintptr // address of the bytes
	Off           uint64  // of the bytes in the region
	Size, Seq     uint64
	Shape         []int64 // inside the record
	Meta          []byte  // inside the record
	Code, Bits    uint8
	Lanes         uint16
	Tensor        bool
}

// Raw hands the view over: v itself must not be released after it.
func (v View) Raw() Raw {
	r := v.s.raw(v)
	r.Data = v.Addr()
	return r
}

func (s *Store) raw(v View) Raw {
	r := Raw{
		Cell: uintptr(unsafe.Pointer(v.c)), Control: uintptr(unsafe.Pointer(s.control)), Unit: v.unit,
		Off: v.c.Off, Size: v.c.Bytes, Seq: v.c.Seq,
	}
	if v.c.Body != 0 {
		b := v.body()
		r.Shape, r.Meta = index.Shape(b), index.Meta(b)
		r.Code, r.Bits, r.Lanes, r.Tensor = b.DCode, b.DBits, b.DLanes, b.Tensor != 0
	}
	return r
}

// bytesAt is memory outside the Go heap as a slice.
func bytesAt(addr uintptr, n uint64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}

// RecordDirectory is where the records of all objects are listed, for the code that names an object while the process dies.
func (s *Store) RecordDirectory() uintptr { return s.heap.Directory() }
