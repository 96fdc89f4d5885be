package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Open opens the directory at path, and makes it when it is not there (not its parents).
func Open(path string) (Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Op: "open", Path: path, Err: err}
	}
	if err := unix.Mkdir(path, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, failed("make", path, err)
	}
	fd, err := again(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, failed("open", path, err)
	}
	return &directory{fd: fd, lock: -1, path: path}, nil
}

// directory works by its descriptor, so that it stays the same one when somebody renames it.
type directory struct {
	fd, lock int
	path     string
}

func (d *directory) Path() string { return d.path }

func (d *directory) Open(name string, how How) (File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW
	if how&Create != 0 {
		flags |= unix.O_CREAT
	}
	if how&Direct != 0 {
		flags |= unix.O_DIRECT
	}
	fd, err := again(func() (int, error) { return unix.Openat(d.fd, name, flags, 0o600) })
	if err == unix.EINVAL && how&Direct != 0 {
		err = unix.EOPNOTSUPP
	}
	if err != nil {
		return nil, d.failed("open", name, err)
	}
	return &plain{fd: fd, path: filepath.Join(d.path, name)}, nil
}

func (d *directory) Rename(from, to string) error {
	if err := errors.Join(CheckName(from), CheckName(to)); err != nil {
		return err
	}
	return d.failed("rename", from, unix.Renameat(d.fd, from, d.fd, to))
}

func (d *directory) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return d.failed("remove", name, unix.Unlinkat(d.fd, name, 0))
}

func (d *directory) Names() ([]string, error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, d.failed("list", "", err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, d.failed("list", "", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != LockName {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *directory) Sync() error {
	_, err := again(func() (int, error) { return 0, unix.Fsync(d.fd) })
	return d.failed("sync", "", err)
}

func (d *directory) Close() error {
	if d.fd < 0 {
		return nil
	}
	if d.lock >= 0 {
		unix.Close(d.lock) // ends the lock
	}
	fd := d.fd
	d.fd, d.lock = -1, -1
	return d.failed("close", "", unix.Close(fd))
}

func (d *directory) failed(op, name string, err error) error {
	return failed(op, filepath.Join(d.path, name), err)
}

type plain struct {
	fd   int
	path string
}

func (f *plain) FD() int { return f.fd }

func (f *plain) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, failed("read", f.path, unix.EINVAL)
	}
	for n < len(p) {
		m, err := again(func() (int, error) { return unix.Pread(f.fd, p[n:], off+int64(n)) })
		if err != nil {
			return n, failed("read", f.path, err)
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (f *plain) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off > math.MaxInt64-int64(len(p)) {
		return 0, failed("write", f.path, unix.EINVAL)
	}
	for n < len(p) {
		m, err := again(func() (int, error) { return unix.Pwrite(f.fd, p[n:], off+int64(n)) })
		if err != nil {
			return n, failed("write", f.path, err)
		}
		if m == 0 {
			return n, failed("write", f.path, io.ErrShortWrite)
		}
		n += m
	}
	return n, nil
}

func (f *plain) Sync() error {
	_, err := again(func() (int, error) { return 0, unix.Fdatasync(f.fd) })
	return failed("sync", f.path, err)
}

func (f *plain) Allocate(off, n int64) error {
	_, err := again(func() (int, error) { return 0, unix.Fallocate(f.fd, 0, off, n) })
	return failed("allocate", f.path, err)
}

func (f *plain) Truncate(n int64) error {
	_, err := again(func() (int, error) { return 0, unix.Ftruncate(f.fd, n) })
	return failed("truncate", f.path, err)
}

func (f *plain) Size() (int64, error) {
	var st unix.Stat_t
	_, err := again(func() (int, error) { return 0, unix.Fstat(f.fd, &st) })
	return st.Size, failed("size", f.path, err)
}

func (f *plain) Close() error {
	if f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return failed("close", f.path, unix.Close(fd))
}

// again repeats what a signal interrupted: Go's own signals do.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// failed gives an errno the sentinel that it stands for; nil stays nil.
func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: path, Err: Classify(err)}
}

// Classify wraps an errno with the sentinel of this package that it stands for. What is classified already, and nil, stay
// as they are.
func Classify(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	for _, kind := range []error{ErrNoSpace, ErrReadOnly, ErrUnsupported, ErrSystem, fs.ErrNotExist} {
		if errors.Is(err, kind) {
			return err
		}
	}
	kind := ErrSystem
	switch errno {
	case unix.ENOSPC, unix.EDQUOT:
		kind = ErrNoSpace
	case unix.EROFS:
		kind = ErrReadOnly
	case unix.EOPNOTSUPP, unix.ENOSYS:
		kind = ErrUnsupported
	}
	return fmt.Errorf("%w: %w", kind, err)
}
