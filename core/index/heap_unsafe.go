package index

import (
	"sync/atomic"
	"unsafe"

	"moorage/core/arena/cell"
)

// directory says where the chunks are. It is mapped memory that C reads, byte for byte:
//
//	offset          type        what
//	0               uint32      n: chunks 1 to n can be walked (stored last, read it with acquire)
//	4               uint32      units of each chunk that are tiled by blocks: 65535
//	8               uint32      bytes of a unit: 32
//	12 to 63                    zero
//	64              void*[65536]  address of each chunk; entry 0 is not used
//	64 + 524288     uint8[65536]  stripe that owns the chunk; of no use to C
//
// Unit u lies at chunk[u >> 16] + (u & 65535) * 32. A chunk is walked from its unit 0 by adding Cell.Units until
// the tiled units are reached; whoever does so without the lock of the stripe has to stop at a length below 2 or
// beyond the end. Chunks are never unmapped before Close.
type directory struct {
	chunks atomic.Uint32
	tiled  uint32
	unit   uint32
	_      [52]byte
	base   [maxChunks]unsafe.Pointer
	owner  [maxChunks]uint8
}

const directoryBytes = int(unsafe.Sizeof(directory{}))

// Directory is the address of the directory of chunks, for the C code that walks the memory of a dying process. It
// is valid until Close. The comment at directory in heap_unsafe.go has the layout.
func (h *Heap) Directory() uintptr { return uintptr(unsafe.Pointer(h.dir)) }

// At is the block at a unit. The unit must come from this heap; At(0) is nil.
func (h *Heap) At(unit uint32) *cell.Cell {
	return (*cell.Cell)(unsafe.Add(h.dir.base[unit>>chunkShift], uintptr(unit&(chunkUnits-1))*cell.Unit))
}

// BodyAt is the body at a unit (Cell.Body).
func (h *Heap) BodyAt(body uint32) *cell.Body {
	return (*cell.Body)(unsafe.Pointer(h.At(body)))
}

// freeLinks chain the free blocks of one length. They stand where a cell has its word.
type freeLinks struct{ next, prev uint32 }

func links(c *cell.Cell) *freeLinks { return (*freeLinks)(unsafe.Pointer(c)) }

const headerAt = unsafe.Offsetof(cell.Cell{}.Units) // from here to the end of the cell: Units, Kind, Flags, Before

func span(c *cell.Cell, from, to uintptr) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), from)), to-from)
}

// wipe zeroes a block but for the fields that keep the memory walkable.
func (h *Heap) wipe(c *cell.Cell) {
	tail := span(c, cell.Size, uintptr(c.Units)*cell.Unit)
	if checked {
		for _, b := range tail {
			if b != poisonByte {
				panic("index: a free block was written to")
			}
		}
	}
	clear(span(c, 0, headerAt))
	clear(tail)
}

const poisonByte = 0xdb

// poison fills part of a free block, so that a late reader finds nonsense and a late writer is found out.
func (h *Heap) poison(c *cell.Cell, from, to uintptr) {
	if !checked {
		return
	}
	b := span(c, from, to)
	for i := range b {
		b[i] = poisonByte
	}
}
