package tensor

import "unsafe"

// CopyGo is a [Copier] that needs nothing but Go.
func CopyGo(dst, src, n uintptr) {
	if n != 0 {
		copy(unsafe.Slice((*byte)(at(dst)), n), unsafe.Slice((*byte)(at(src)), n))
	}
}

// at makes an address into a pointer. The memory is the caller's and not Go's,
// so it neither moves nor goes while the caller keeps it mapped.
func at(address uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&address))
}
