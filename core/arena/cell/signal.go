package cell

import "golang.org/x/sys/unix"

// Signal writes an eventfd. It cannot block: the counter of the eventfd is far from its limit, and if it were not, the
// reader would be awake already. A negative descriptor is none.
func Signal(fd int32) {
	if fd < 0 {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(int(fd), one[:])
}
