package index

import "unsafe"

// mapSlots maps empty slots; the length fills the last page.
func (t *Table) mapSlots(bits uint) ([]uint64, error) {
	const op = "map table of names"
	if bits > maxBits {
		return nil, &MemoryError{Op: op, Err: ErrExhausted}
	}
	n := slotBytes(bits)
	if err := t.heap.opts.before(op, n); err != nil {
		return nil, err
	}
	align, huge := uintptr(pageBytes), n >= hugeBytes
	if huge {
		align = hugeBytes
	}
	p, err := mapPages(uintptr(n), align, huge)
	if err != nil {
		return nil, &MemoryError{Op: op, Bytes: n, Err: err}
	}
	liveMappings.Add(1)
	return unsafe.Slice((*uint64)(p), n/8), nil
}

func unmapSlots(s []uint64) {
	unmapPages(unsafe.Pointer(unsafe.SliceData(s)), uintptr(len(s))*8)
	liveMappings.Add(-1)
}
