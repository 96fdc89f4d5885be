package registry

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is the system calls of a registry. Tests put failing ones in their place.
type kernel struct {
	mlock   func(addr, n uintptr) error
	munlock func(addr, n uintptr) error
	mapped  func(addr, n uintptr) error // ENOMEM: not all of it is
	memlock func() uint64               // RLIMIT_MEMLOCK
	used    func() (locked, pinned uint64)
}

var linux = kernel{
	mlock: func(addr, n uintptr) error {
		return call(unix.SYS_MLOCK, addr, n, 0)
	},
	munlock: func(addr, n uintptr) error {
		return call(unix.SYS_MUNLOCK, addr, n, 0)
	},
	// Linux has nothing to do for MS_ASYNC, but looks whether the whole range is mapped.
	mapped: func(addr, n uintptr) error {
		return call(unix.SYS_MSYNC, addr, n, unix.MS_ASYNC)
	},
	memlock: func() uint64 {
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) != nil {
			return 0
		}
		return l.Cur
	},
	used: memoryHeld,
}

func call(number, a, b, c uintptr) error {
	for {
		_, _, errno := unix.Syscall(number, a, b, c)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// memoryHeld is what this process has locked and pinned, in bytes.
func memoryHeld() (locked, pinned uint64) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseUint(fields[1], 10, 64)
		switch fields[0] {
		case "VmLck:":
			locked = kib << 10
		case "VmPin:":
			pinned = kib << 10
		}
	}
	return locked, pinned
}
