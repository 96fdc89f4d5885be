package index

import (
	"unsafe"

	"moorage/core/arena/cell"
)

// A body is the header, the shape, the key, the user metadata, without gaps. The slices below point into it, are
// valid until its block is freed, and are not to be written to once the object is published.

// Shape is the shape; empty for plain bytes and for a tensor of no dimensions.
func Shape(b *cell.Body) []int64 {
	return unsafe.Slice((*int64)(unsafe.Add(unsafe.Pointer(b), cell.BodySize)), int(b.NDim))
}

// Key is the key.
func Key(b *cell.Body) []byte {
	at := cell.BodySize + 8*uintptr(b.NDim)
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(b), at)), int(b.KeyLen))
}

// Meta is the user metadata.
func Meta(b *cell.Body) []byte {
	at := cell.BodySize + 8*uintptr(b.NDim) + uintptr(b.KeyLen)
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(b), at)), int(b.MetaLen))
}
