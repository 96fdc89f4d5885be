package file

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lock holds an flock for as long as the directory is open. The kernel ends it with the last descriptor, so a process that
// dies leaves none behind. The owner's pid stands in the file, for the message alone.
func (d *directory) Lock() error {
	if d.lock >= 0 {
		return nil
	}
	fd, err := again(func() (int, error) {
		return unix.Openat(d.fd, LockName, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	})
	if err != nil {
		return d.failed("lock", LockName, err)
	}
	_, err = again(func() (int, error) { return 0, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &LockedError{Dir: d.path, PID: owner(fd)}
		unix.Close(fd)
		return err
	}
	if err == nil {
		err = sign(fd)
	}
	if err != nil {
		unix.Close(fd)
		return d.failed("lock", LockName, err)
	}
	d.lock = fd
	return nil
}

func owner(fd int) int {
	var text [20]byte
	n, err := unix.Pread(fd, text[:], 0)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func sign(fd int) error {
	if err := unix.Ftruncate(fd, 0); err != nil {
		return err
	}
	_, err := unix.Pwrite(fd, strconv.AppendInt(nil, int64(unix.Getpid()), 10), 0)
	return err
}
