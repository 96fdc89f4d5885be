//go:build !race

package core

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"moorage/core/arena/cell"
)

const controlBytes = 4096

// mapControl maps a control page. A forked child does not get it: nothing there may look at it.
func mapControl() (*cell.Control, error) {
	p, err := unix.MmapPtr(-1, 0, nil, controlBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	b := unsafe.Slice((*byte)(p), controlBytes)
	for _, advice := range []int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP} {
		if err := unix.Madvise(b, advice); err != nil {
			return nil, errors.Join(err, unix.MunmapPtr(p, controlBytes))
		}
	}
	return (*cell.Control)(p), nil
}

func unmapControl(c *cell.Control) error { return unix.MunmapPtr(unsafe.Pointer(c), controlBytes) }
