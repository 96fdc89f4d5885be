package index

import (
	"unsafe"

	"moorage/core/arena/cell"
)

// trimPages is how long, in pages, a run of free pages has to be for Trim to give it back.
const trimPages = 16

// Trim gives the pages inside large free blocks back to the kernel and returns how many bytes that were. The blocks
// stay where they are; their headers stay readable. It holds the lock of one stripe for one chunk at a time.
func (h *Heap) Trim() int64 {
	if checked || inRace {
		return 0 // the pattern in free blocks would be lost; Go arrays have no pages of their own
	}
	var sum int64
	for n := uint32(1); n <= h.dir.chunks.Load(); n++ {
		sum += h.trimChunk(n << chunkShift)
	}
	return sum
}

func (h *Heap) trimChunk(unit uint32) (sum int64) {
	s := &h.stripes[h.dir.owner[unit>>chunkShift]]
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := h.At(unit); c != nil; unit, c = unit+uint32(c.Units), h.after(unit, c) {
		if c.Kind != cell.KindFree {
			continue
		}
		start := uintptr(unsafe.Pointer(c))
		from := (start + cell.Size + pageBytes - 1) &^ (pageBytes - 1)
		to := (start + uintptr(c.Units)*cell.Unit) &^ (pageBytes - 1)
		if from+trimPages*pageBytes <= to && dropPages(unsafe.Add(unsafe.Pointer(c), from-start), to-from) {
			sum += int64(to - from)
		}
	}
	return sum
}
