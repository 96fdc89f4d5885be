//go:build linux && (amd64 || arm64)

package ibv

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// Supported says whether this platform can have RDMA at all.
const Supported = true

func openLibrary(path string) (uintptr, error) {
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// symbol is the address of name, zero if the library has none.
func symbol(library uintptr, name string) uintptr {
	addr, err := purego.Dlsym(library, name)
	if err != nil {
		return 0
	}
	return addr
}

// Call calls the C function at fn.
//
//go:uintptrescapes
func Call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}

// errnoLocation is libc's __errno_location. Every process that has loaded a library has one.
var errnoLocation = sync.OnceValue(func() uintptr {
	return symbol(purego.RTLD_DEFAULT, "__errno_location")
})

// callErrno calls fn and reads errno when failed says that the result is a failure.
//
//go:uintptrescapes
func callErrno(failed func(uintptr) bool, fn uintptr, args ...uintptr) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	where := errnoLocation()
	r, _, _ := purego.SyscallN(fn, args...)
	if !failed(r) {
		return r, nil
	}
	if where == 0 {
		return r, syscall.EIO
	}
	at, _, _ := purego.SyscallN(where)
	if errno := syscall.Errno(load32(at, 0)); errno != 0 {
		return r, errno
	}
	return r, syscall.EIO
}

// PollableFD is a second descriptor of the same file, non-blocking, for Go's poller. Its owner closes it; the library closes
// the first.
func PollableFD(fd int) (int, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, fmt.Errorf("set non-blocking: %w", err)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return dup, nil
}

// Readable says whether a read of fd would not wait. An empty queue is told by this and not by errno, which the runtime may
// have overwritten when it is read.
func Readable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n > 0 && err == nil
}

// Memory maps n bytes outside the Go heap, for structures that point to each other.
func Memory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// FreeMemory unmaps what Memory gave.
func FreeMemory(b []byte) error { return unix.Munmap(b) }
