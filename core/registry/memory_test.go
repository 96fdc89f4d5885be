package registry

import (
	"errors"
	"sync/atomic"
)

// fakeMemory is a store's memory that is nowhere: two mappings of one region.
type fakeMemory struct {
	size           uint64
	writer, reader uintptr
	huge           bool
	pins, pinned   atomic.Int64 // mappings made, and still there
	fail           atomic.Bool
}

func newMemory(size uint64) *fakeMemory {
	return &fakeMemory{size: size, writer: 1 << 40, reader: 2 << 40}
}

func (m *fakeMemory) Size() uint64                  { return m.size }
func (m *fakeMemory) HugePages() bool               { return m.huge }
func (m *fakeMemory) WriterAddr(off uint64) uintptr { return m.writer + uintptr(off) }

func (m *fakeMemory) Contains(addr uintptr) (uint64, bool) {
	for _, base := range []uintptr{m.writer, m.reader} {
		if addr >= base && addr-base < uintptr(m.size) {
			return uint64(addr - base), true
		}
	}
	return 0, false
}

var errNoMemory = errors.New("no memory")

func (m *fakeMemory) Pinnable(off, n uint64) (uintptr, func() error, error) {
	if m.fail.Load() {
		return 0, nil, errNoMemory
	}
	m.pins.Add(1)
	m.pinned.Add(1)
	return 3<<40 + uintptr(off), func() error { m.pinned.Add(-1); return nil }, nil
}
