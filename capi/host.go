package main

// #include "exports.h"
import "C"

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"moorage/core"
	"moorage/core/arena"
	"moorage/core/arena/cell"
	"moorage/core/tensor"
)

// The two declarations of what is shared must be of one size, else this does not compile.
var (
	_ [C.sizeof_moor_cell - unsafe.Sizeof(cell.Cell{})]struct{}
	_ [unsafe.Sizeof(cell.Cell{}) - C.sizeof_moor_cell]struct{}
	_ [C.sizeof_moor_body - unsafe.Sizeof(cell.Body{})]struct{}
	_ [unsafe.Sizeof(cell.Body{}) - C.sizeof_moor_body]struct{}
	_ [C.sizeof_moor_process - unsafe.Sizeof(cell.Process{})]struct{}
	_ [unsafe.Sizeof(cell.Process{}) - C.sizeof_moor_process]struct{}
	_ [C.sizeof_moor_control - unsafe.Sizeof(cell.Control{})]struct{}
	_ [unsafe.Sizeof(cell.Control{}) - C.sizeof_moor_control]struct{}
)

// host is the process as all stores of this library see it. Made with the first store.
var host = sync.OnceValues(func() (*core.Host, error) {
	if st := C.moor_fork_init(); st != C.MOOR_OK {
		return nil, fmt.Errorf("%w: %s", core.ErrSystem, C.GoString(C.moor_last_error()))
	}
	words := (*cell.Process)(unsafe.Pointer(C.moor_process_words()))
	h := core.NewHost(words, copyC, nextChild)
	h.RefuseWrites(func(addr uintptr, n uint64) bool {
		a, size := C.uint64_t(addr), C.uint64_t(n)
		return C.moor_region_overlaps(a, size) != 0 || C.moor_region_touches(a, size) != 0 && h.Published(addr, n)
	})
	return h, nil
})

// smallCopy is the size below which Go's own copy is as quick as C's, without the way there.
const smallCopy = 16 << 10

func copyC(dst, src, n uintptr, closing *atomic.Uint32) bool {
	if n < smallCopy {
		tensor.CopyGo(dst, src, n)
		return true
	}
	return C.moor_copy(C.uint64_t(dst), C.uint64_t(src), C.uint64_t(n), (*C.uint32_t)(unsafe.Pointer(closing))) == 0
}

func nextChild() (core.Child, bool) {
	var c C.moor_child
	if C.moor_child_next(&c) == 0 {
		return core.Child{}, false
	}
	return core.Child{Slot: uint32(c.slot), Pipe: int(c.pipe), Token: int(c.token)}, true
}

// tracker tells the fork handlers, the fault line and the windows of one store's region.
type tracker struct {
	region *C.moor_region
}

// Lock takes the fork lock. A C mutex is given back by the thread that took it.
func (*tracker) Lock() {
	runtime.LockOSThread()
	C.moor_fork_lock()
}

func (*tracker) Unlock() {
	C.moor_fork_unlock()
	runtime.UnlockOSThread()
}

func (t *tracker) Add(m arena.Mapping) error {
	huge := C.uint32_t(0)
	if m.Huge {
		huge = 1
	}
	t.region = C.moor_region_add(&C.moor_region{
		fd: C.int32_t(m.FD), huge: huge, writer: C.uint64_t(m.Addr), reader: C.uint64_t(m.Reader),
		park: C.uint64_t(m.Park), len: C.uint64_t(m.Len),
	})
	if t.region == nil {
		return fmt.Errorf("%w: no memory for the list of regions", core.ErrMemory)
	}
	return nil
}

func (t *tracker) Remove(arena.Mapping) {
	C.moor_region_remove(t.region)
	t.region = nil
}
