//go:build race

package index

import "unsafe"

const inRace = true

// mapPages makes the memory a pointer-free Go array, so that the race detector sees what happens in it.
func mapPages(bytes, _ uintptr, _ bool) (unsafe.Pointer, error) {
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, bytes/8))), nil
}

func unmapPages(unsafe.Pointer, uintptr) {}

func dropPages(unsafe.Pointer, uintptr) bool { return false }

func newDirectory() (*directory, error) { return new(directory), nil }

func freeDirectory(*directory) {}
