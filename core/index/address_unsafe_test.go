package index

import (
	"unsafe"

	"moorage/core/arena/cell"
)

func addressOf(c *cell.Cell) uintptr { return uintptr(unsafe.Pointer(c)) }
