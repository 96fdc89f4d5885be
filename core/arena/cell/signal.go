package cell

import "golang.org/x/sys/unix"

// Signal writes an eventfd. It cannot block: the counter of the eventfd is far from its limit, and if it were not, the
// reader would be awake already. A negative descriptor is none, and so is one that somebody closed and that names a file
// by now.
func Signal(fd int32) {
	if !Nameless(fd) {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(int(fd), one[:])
}

// Nameless reports whether a descriptor is open and names none of the files that have a type: the kernel's nameless
// files, of which an eventfd is one, have none.
func Nameless(fd int32) bool {
	var st unix.Stat_t
	return fd >= 0 && unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == 0
}
