package arena

import "golang.org/x/sys/unix"

// kernel is the system calls of a region. Tests put a failing one in the place
// of any of them.
type kernel struct {
	memfdCreate func(name string, flags int) (int, error)
	ftruncate   func(fd int, n int64) error
	addSeals    func(fd, seals int) error
	mmap        func(addr, n uintptr, prot, flags, fd int, off int64) (uintptr, error)
	munmap      func(addr, n uintptr) error
	mremap      func(addr, n, to uintptr, flags int) (uintptr, error)
	getrlimit   func(resource int, l *unix.Rlimit) error
	madvise     func(addr, n uintptr, advice int) error
	mprotect    func(addr, n uintptr, prot int) error
	fallocate   func(fd int, mode uint32, off, n int64) error
	fstat       func(fd int, st *unix.Stat_t) error
	close       func(fd int) error
}

var linux = kernel{
	memfdCreate: unix.MemfdCreate,
	ftruncate:   unix.Ftruncate,
	addSeals: func(fd, seals int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		return err
	},
	mmap: func(addr, n uintptr, prot, flags, fd int, off int64) (uintptr, error) {
		addr, _, errno := unix.Syscall6(unix.SYS_MMAP, addr, n, uintptr(prot), uintptr(flags), uintptr(fd), uintptr(off))
		return addr, known(errno)
	},
	munmap: func(addr, n uintptr) error {
		_, _, errno := unix.Syscall(unix.SYS_MUNMAP, addr, n, 0)
		return known(errno)
	},
	mremap: func(addr, n, to uintptr, flags int) (uintptr, error) {
		at, _, errno := unix.Syscall6(unix.SYS_MREMAP, addr, n, n, uintptr(flags), to, 0)
		return at, known(errno)
	},
	getrlimit: unix.Getrlimit,
	madvise: func(addr, n uintptr, advice int) error {
		return retry(func() error {
			_, _, errno := unix.Syscall(unix.SYS_MADVISE, addr, n, uintptr(advice))
			return known(errno)
		})
	},
	mprotect: func(addr, n uintptr, prot int) error {
		_, _, errno := unix.Syscall(unix.SYS_MPROTECT, addr, n, uintptr(prot))
		return known(errno)
	},
	fallocate: func(fd int, mode uint32, off, n int64) error {
		return retry(func() error { return unix.Fallocate(fd, mode, off, n) })
	},
	fstat: unix.Fstat,
	close: unix.Close,
}

// known turns errno 0 into a nil error.
func known(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// retry repeats a call that a signal interrupted, as those do that the Go
// runtime sends itself.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
