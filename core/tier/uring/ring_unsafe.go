package uring

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func setup(entries uint32, p *params) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// mapQueues maps both queues and the requests. A forked child has none of them.
func (r *Ring) mapQueues(p params) (err error) {
	rings := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(Completion{})))
	if r.maps.rings, err = r.mapPart(mapRings, int(rings)); err != nil {
		return err
	}
	if r.maps.entries, err = r.mapPart(mapEntries, int(p.sqEntries)*int(unsafe.Sizeof(entry{}))); err != nil {
		return err
	}
	base := unsafe.Pointer(unsafe.SliceData(r.maps.rings))
	word := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Add(base, off)) }
	r.sqHead, r.sqTail, r.mask = word(p.sq.head), word(p.sq.tail), word(p.sq.mask).Load()
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), word(p.cq.mask).Load()
	r.tail = r.sqTail.Load()
	r.entries = unsafe.Slice((*entry)(unsafe.Pointer(unsafe.SliceData(r.maps.entries))), p.sqEntries)
	r.completions = unsafe.Slice((*Completion)(unsafe.Add(base, p.cq.cqes)), p.cqEntries)
	for i := range p.sqEntries {
		word(p.sq.array + i*4).Store(i) // request i stands in place i, for good
	}
	return nil
}

func (r *Ring) mapPart(off int64, n int) ([]byte, error) {
	b, err := unix.Mmap(r.fd, off, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fail("mmap", err)
	}
	return b, fail("madvise", unix.Madvise(b, unix.MADV_DONTFORK))
}

func (r *Ring) unmap() error {
	var first error
	for _, b := range [...][]byte{r.maps.rings, r.maps.entries} {
		if b == nil {
			continue
		}
		if err := unix.Munmap(b); err != nil && first == nil {
			first = fail("munmap", err)
		}
	}
	r.maps.rings, r.maps.entries = nil, nil
	r.entries, r.completions = nil, nil
	return first
}

func (r *Ring) enter(wait uint32, timeout time.Duration, brief bool) error {
	var flags uintptr
	if wait > 0 {
		flags = enterGetEvents
	}
	var arg unsafe.Pointer
	var size uintptr
	if timeout > 0 && wait > 0 {
		r.time = timespec{int64(timeout / time.Second), int64(timeout % time.Second)}
		r.wait = waiting{timeout: uint64(uintptr(unsafe.Pointer(&r.time)))}
		flags |= enterExtArg
		arg, size = unsafe.Pointer(&r.wait), unsafe.Sizeof(r.wait)
	}
	call := unix.Syscall6
	if brief {
		call = unix.RawSyscall6
	}
	_, _, errno := call(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.Written()), uintptr(wait), flags, uintptr(arg), size)
	runtime.KeepAlive(r)
	if errno != 0 {
		return errno
	}
	return nil
}

func (r *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(arg), n, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

func (r *Ring) makeTable(op uintptr, n int) error {
	t := table{n: uint32(n), flags: tableSparse}
	return fail("io_uring_register", r.register(op, unsafe.Pointer(&t), unsafe.Sizeof(t)))
}

// MakeFiles makes an empty table of n registered files, once.
func (r *Ring) MakeFiles(n int) error { return r.makeTable(registerFiles, n) }

// MakeBuffers makes an empty table of n registered buffers (at most 16384), once.
func (r *Ring) MakeBuffers(n int) error { return r.makeTable(registerBuffers, n) }

// SetFile puts a descriptor into a place of the table; -1 empties it.
func (r *Ring) SetFile(at, fd int) error {
	number := int32(fd)
	var held runtime.Pinner
	held.Pin(&number)
	defer held.Unpin()
	u := update{at: uint32(at), resources: uint64(uintptr(unsafe.Pointer(&number))), n: 1}
	return fail("io_uring_register", r.register(registerFilesUpdate, unsafe.Pointer(&u), unsafe.Sizeof(u)))
}

// SetBuffer pins n bytes at addr, at most 1 GiB, and puts them into a place of the table. 0 bytes at 0 empty it: the
// memory is let go when the last request that uses it has ended.
func (r *Ring) SetBuffer(at int, addr, n uintptr) error {
	memory := iovec{uint64(addr), uint64(n)}
	var held runtime.Pinner
	held.Pin(&memory)
	defer held.Unpin()
	u := update{at: uint32(at), resources: uint64(uintptr(unsafe.Pointer(&memory))), n: 1}
	return fail("io_uring_register", r.register(registerBuffersUpdate, unsafe.Pointer(&u), unsafe.Sizeof(u)))
}

// CloneBuffers makes the table of buffers that of another ring. The memory is pinned, and counted, once. Linux 6.13.
func (r *Ring) CloneBuffers(from *Ring) error {
	c := clone{from: uint32(from.fd), flags: cloneReplace}
	return fail("io_uring_register", r.register(registerCloneBuffers, unsafe.Pointer(&c), 1))
}
