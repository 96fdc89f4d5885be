package rdma

import "golang.org/x/sys/unix"

// memlockLimit is RLIMIT_MEMLOCK, zero when there is none.
func memlockLimit() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) != nil || l.Cur == unix.RLIM_INFINITY {
		return 0
	}
	return l.Cur
}
