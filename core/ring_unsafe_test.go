package core

import "unsafe"

// ringEntry is one submission of io_uring.
type ringEntry struct {
	op, flags uint8
	prio      uint16
	fd        int32
	off, addr uint64
	n, rw     uint32
	user      uint64
	slot      uint16
	_         [22]byte
}

// placeOf is an address for the kernel. What lies there is on the heap from then on: a stack may move.
func placeOf[T any](p *T) uintptr {
	placed = p
	return uintptr(unsafe.Pointer(p))
}

var placed any

func bytesOfEntry(e *ringEntry) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(e)), unsafe.Sizeof(*e))
}

func wordAt(m []byte, off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&m[off])) }
