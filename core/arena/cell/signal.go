package cell

import "golang.org/x/sys/unix"

// Signal writes an eventfd. It cannot block: the counter of the eventfd is far from its limit, and if it were not, the
// reader would be awake already. A negative descriptor is none, and so is one that somebody closed and that names a file
// by now: the kernel's nameless files, of which an eventfd is one, have no type.
func Signal(fd int32) {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != 0 {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(int(fd), one[:])
}
