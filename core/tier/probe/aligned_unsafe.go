package probe

import "unsafe"

// aligned is the n bytes of b from the first address on that is a multiple of n. b has 2 n bytes, less one.
func aligned(b []byte, n int) []byte {
	start := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(n-1))
	skip := (n - start) & (n - 1)
	return b[skip : skip+n : skip+n]
}
