package blockio

import "unsafe"

// bytesAt takes the address through memory because it is not a Go pointer and never was one.
func bytesAt(addr uintptr, n int) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), n)
}
