package probe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Report is what a directory offers.
type Report struct {
	Dir        string
	FileSystem string // by name: ext4, xfs, tmpfs, overlay, …; a number in hexadecimal when it has none here
	Memory     string // not empty: what is written here stays in memory, and this is why
	Size, Free uint64 // bytes; Free is for a user without privileges

	Direct      bool  // a block was written and read with O_DIRECT
	NotDirect   error // why not
	MemoryAlign int   // of addresses, as the kernel says; 0: it does not say
	OffsetAlign int   // of offsets and lengths

	Device Device // the disk under it; without a name when there is none, or it cannot be known
}

// Align is what addresses, offsets and lengths of direct I/O here should be multiples of: pages, or more.
func (r *Report) Align() int { return max(block, r.MemoryAlign, r.OffsetAlign) }

// block is what a probe writes, unless the kernel asks for more.
const block = 4096

// System is where to look. Tests have their own.
type System struct {
	Root string // above sys and proc; empty for /

	statfs func(path string, buf *unix.Statfs_t) error
	statx  func(path string, mask int, buf *unix.Statx_t) error
	open   func(path string, flags int) (int, error)
}

var linux = System{
	statfs: unix.Statfs,
	statx: func(path string, mask int, buf *unix.Statx_t) error {
		return unix.Statx(unix.AT_FDCWD, path, 0, mask, buf)
	},
	open: func(path string, flags int) (int, error) { return unix.Open(path, flags, 0o600) },
}

// Directory probes one. It writes a file of one block, which is gone when it returns. An error says that the directory
// cannot be used at all; what is known is in the report nevertheless.
func Directory(dir string) (Report, error) { return linux.Directory(dir) }

// Directory is as the function of that name.
func (s System) Directory(dir string) (Report, error) {
	r := Report{Dir: dir}
	info, err := os.Stat(dir)
	if err != nil {
		return r, fmt.Errorf("probe: %w", err)
	}
	if !info.IsDir() {
		return r, fmt.Errorf("probe: %s: %w", dir, unix.ENOTDIR)
	}
	var fs unix.Statfs_t
	if err := s.statfs(dir, &fs); err != nil {
		return r, fmt.Errorf("probe: statfs %s: %w", dir, err)
	}
	r.Size, r.Free = fs.Blocks*uint64(fs.Frsize), fs.Bavail*uint64(fs.Frsize)
	p := s.place(dir, fs, 0)
	r.FileSystem, r.Memory, r.Device = p.fileSystem, p.memory, p.device
	if err := s.tryDirect(&r); err != nil {
		return r, fmt.Errorf("probe: %w", err)
	}
	return r, nil
}

// tryDirect writes and reads a block with O_DIRECT. An error: not even a file can be made.
func (s System) tryDirect(r *Report) error {
	f, err := os.CreateTemp(r.Dir, ".moorage-probe-*")
	if err != nil {
		return err
	}
	name := f.Name()
	defer func() { _ = os.Remove(name) }()
	if err := f.Close(); err != nil {
		return err
	}
	var x unix.Statx_t
	if err := s.statx(name, unix.STATX_DIOALIGN, &x); err == nil && x.Mask&unix.STATX_DIOALIGN != 0 {
		r.MemoryAlign, r.OffsetAlign = int(x.Dio_mem_align), int(x.Dio_offset_align)
	}
	r.NotDirect = s.roundTrip(name, r.Align())
	r.Direct = r.NotDirect == nil
	return nil
}

var errOtherBytes = errors.New("a block that was written with O_DIRECT reads differently")

// roundTrip writes n bytes with O_DIRECT and reads them.
func (s System) roundTrip(name string, n int) (err error) {
	fd, err := s.open(name, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open with O_DIRECT: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	memory, err := unix.Mmap(-1, 0, 3*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(memory)) }()
	out, in := aligned(memory, n), aligned(memory[n:], n)
	for i := range out {
		out[i] = byte(i*31 + i>>8)
	}
	if moved, err := unix.Pwrite(fd, out, 0); err != nil || moved != n {
		return fmt.Errorf("write %d of %d bytes with O_DIRECT: %w", moved, n, orShort(err))
	}
	if moved, err := unix.Pread(fd, in, 0); err != nil || moved != n {
		return fmt.Errorf("read %d of %d bytes with O_DIRECT: %w", moved, n, orShort(err))
	}
	if !bytes.Equal(in, out) {
		return errOtherBytes
	}
	return nil
}

func orShort(err error) error {
	if err == nil {
		return unix.EIO
	}
	return err
}

func (s System) path(parts ...string) string {
	return filepath.Join(append([]string{"/", s.Root}, parts...)...)
}
