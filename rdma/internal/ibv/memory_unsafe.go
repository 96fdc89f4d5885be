package ibv

import "unsafe"

// pointer is a C address as a pointer. The collector does not know such memory, and vet cannot tell.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

func load32(addr, offset uintptr) uint32   { return *(*uint32)(pointer(addr + offset)) }
func loadPtr(addr, offset uintptr) uintptr { return *(*uintptr)(pointer(addr + offset)) }

// cString reads at most limit bytes at addr, up to the first zero.
func cString(addr uintptr, limit int) string {
	b := unsafe.Slice((*byte)(pointer(addr)), limit)
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
