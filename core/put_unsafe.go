package core

import (
	"runtime"
	"unsafe"
)

// copyIn copies a Go slice in. Through the address, as for any memory: the slice is kept alive and, because its
// address escapes, in place.
func (s *Store) copyIn(dst uintptr, data []byte) bool {
	if len(data) == 0 {
		return true
	}
	p := unsafe.Pointer(unsafe.SliceData(data))
	ok := s.copy(dst, uintptr(p), uintptr(len(data)))
	runtime.KeepAlive(data)
	return ok
}
