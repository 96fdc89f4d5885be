package core

import "unsafe"

// addressOf is where a slice lies. The caller keeps it alive and off the stack.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
