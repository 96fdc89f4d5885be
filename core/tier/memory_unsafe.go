package tier

import "unsafe"

// bytesAt takes the address through memory because it is not a Go pointer and never was one.
func bytesAt(addr uintptr, n uint64) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), n)
}

// addressOf is where a mapping lies.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// now is CLOCK_MONOTONIC in nanoseconds.
//
//go:linkname now runtime.nanotime
//go:noescape
func now() int64
