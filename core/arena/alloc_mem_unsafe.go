//go:build !race

package arena

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped keeps the bookkeeping in private mappings: the collector never looks
// at it, and MADV_DONTFORK keeps a fork from copying its page tables.
type mapped struct{ maps [][]byte }

func newBacking() backing { return &mapped{} }

func (m *mapped) chunk(number int) (*chunk, error) {
	b, err := m.mmap(uint64(unsafe.Sizeof(chunk{})))
	if err != nil {
		return nil, err
	}
	if number > 0 {
		// A big table gains from huge pages; a small store would pay 2 MiB
		// for its first extent. Without them it is slower and nothing else.
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
	return (*chunk)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

func (m *mapped) words(n uint64) ([]uint64, error) {
	b, err := m.mmap(n * 8)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), n), nil
}

func (m *mapped) mmap(n uint64) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fail("mmap", err)
	}
	if err := unix.Madvise(b, unix.MADV_DONTFORK); err != nil {
		return nil, fail("madvise(DONTFORK)", errors.Join(err, unix.Munmap(b)))
	}
	m.maps = append(m.maps, b)
	return b, nil
}

func (m *mapped) free() error {
	var errs []error
	for _, b := range m.maps {
		errs = append(errs, fail("munmap", unix.Munmap(b)))
	}
	m.maps = nil
	return errors.Join(errs...)
}
