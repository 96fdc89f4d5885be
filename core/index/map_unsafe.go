//go:build !race

package index

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// inRace says that memory comes from the Go heap.
const inRace = false

// mapPages maps zeroed private memory that starts at a multiple of align, is not inherited by a forked child and
// not written to core files. huge asks for transparent huge pages, which is a wish and not an error when refused.
func mapPages(bytes, align uintptr, huge bool) (unsafe.Pointer, error) {
	p, err := mapAligned(bytes, align)
	if err != nil {
		return nil, err
	}
	b := unsafe.Slice((*byte)(p), bytes)
	if err := unix.Madvise(b, unix.MADV_DONTFORK); err != nil {
		unmapPages(p, bytes)
		return nil, err
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP) // old kernels: a larger core file
	if huge {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
	return p, nil
}

// mapAligned tries its luck first: the kernel places a mapping right below the previous one, which is aligned more
// often than not, and neighbours that are alike share one entry of the kernel's list of mappings.
func mapAligned(bytes, align uintptr) (unsafe.Pointer, error) {
	p, err := mapAnon(bytes)
	if err != nil || uintptr(p)%align == 0 {
		return p, err
	}
	unmapPages(p, bytes)
	p, err = mapAnon(bytes + align)
	if err != nil {
		return nil, err
	}
	head := (align - uintptr(p)%align) % align
	if head > 0 {
		unmapPages(p, head)
	}
	p = unsafe.Add(p, head)
	if tail := align - head; tail > 0 {
		unmapPages(unsafe.Add(p, bytes), tail)
	}
	return p, nil
}

func mapAnon(bytes uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

func unmapPages(p unsafe.Pointer, bytes uintptr) {
	_ = unix.MunmapPtr(p, bytes) // fails only for arguments that were never mapped
}

// dropPages gives the pages of a range back; it reads as zeroes afterwards.
func dropPages(p unsafe.Pointer, bytes uintptr) bool {
	return unix.Madvise(unsafe.Slice((*byte)(p), bytes), unix.MADV_DONTNEED) == nil
}

func newDirectory() (*directory, error) {
	p, err := mapPages(unsafe.Sizeof(directory{}), pageBytes, false)
	return (*directory)(p), err
}

func freeDirectory(d *directory) { unmapPages(unsafe.Pointer(d), unsafe.Sizeof(*d)) }
