package index

import "moorage/core/arena/cell"

// Walk calls visit for every record, also those without a name, until it returns false. It holds the lock of one
// stripe for the length of one chunk (some 16,000 records): visit must not call Alloc or Free. Each record that
// exists throughout is visited exactly once. A cell may have been handed out this very moment: what is not atomic
// in it may be read only after the cell's word has said that it is published.
func (h *Heap) Walk(visit func(unit uint32, c *cell.Cell) bool) {
	for n := uint32(1); n <= h.dir.chunks.Load(); n++ {
		if !h.walkChunk(n<<chunkShift, visit) {
			return
		}
	}
}

func (h *Heap) walkChunk(unit uint32, visit func(unit uint32, c *cell.Cell) bool) bool {
	s := &h.stripes[h.dir.owner[unit>>chunkShift]]
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := h.At(unit); c != nil; unit, c = unit+uint32(c.Units), h.after(unit, c) {
		if c.Kind == cell.KindRecord && !visit(unit, c) {
			return false
		}
	}
	return true
}

// HeapStats are the figures of a heap, in bytes but for Chunks.
type HeapStats struct {
	Chunks int
	Mapped int64 // address space of the chunks
	Used   int64 // blocks handed out
}

// Stats adds up the stripes; they are read one after another.
func (h *Heap) Stats() HeapStats {
	var v HeapStats
	for i := range h.stripes {
		s := &h.stripes[i]
		s.mu.Lock()
		v.Chunks += s.chunks
		v.Used += int64(s.used) * cell.Unit
		s.mu.Unlock()
	}
	v.Mapped = int64(v.Chunks) * chunkBytes
	return v
}
