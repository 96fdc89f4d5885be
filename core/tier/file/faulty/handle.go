package faulty

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

var errGone = errors.New("the process of this directory is gone")

// handle is a file.File.
type handle struct {
	dir    *Dir
	node   *inode
	name   string
	direct bool
}

func (h *handle) FD() int { return -1 }

// called is the name that the file has now: it may have been renamed. The mutex is held.
func (h *handle) called() string {
	if h.dir.names[h.name] != h.node {
		for name, node := range h.dir.names {
			if node == h.node {
				h.name = name
			}
		}
	}
	return h.name
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if !h.aligned(p, off) {
		return 0, d.failed(Read, h.name, unix.EINVAL)
	}
	rule := d.fault(Read, h.called(), off, int64(len(p)))
	if rule.err() != nil && rule.Short == 0 {
		return 0, d.failed(Read, h.name, rule.Err)
	}
	if off >= int64(len(h.node.data)) && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, h.node.data[off:])
	if rule != nil {
		if at := rule.Flip - off; rule.Flip != 0 && at >= 0 && at < int64(n) {
			p[at] ^= 0x10
		}
		if rule.Short > 0 && rule.Short < n {
			n = rule.Short
			if rule.Err != nil {
				return n, d.failed(Read, h.name, rule.Err)
			}
			return n, io.ErrNoProgress
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if !h.aligned(p, off) {
		return 0, d.failed(Write, h.name, unix.EINVAL)
	}
	d.writes++
	rule := d.fault(Write, h.called(), off, int64(len(p)))
	switch {
	case rule == nil:
	case rule.Short > 0 && rule.Short < len(p):
		h.node.write(p[:rule.Short], off)
		if rule.Err != nil {
			return rule.Short, d.failed(Write, h.name, rule.Err)
		}
		return rule.Short, io.ErrShortWrite
	case rule.Err != nil:
		return 0, d.failed(Write, h.name, rule.Err)
	}
	h.node.write(p, off)
	return len(p), nil
}

// aligned is what the kernel asks of direct files; it asks it of the memory, too, which is no matter of offsets.
func (h *handle) aligned(p []byte, off int64) bool {
	return !h.direct || off%Sector == 0 && len(p)%Sector == 0
}

// Sync that fails has made nothing durable. The writes are still there to be read, and to be lost.
func (h *handle) Sync() error {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Sync, h.called(), 0, 0).err(); err != nil {
		return d.failed(Sync, h.name, err)
	}
	h.node.undo = nil
	d.synced++
	return nil
}

func (h *handle) Allocate(off, n int64) error {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Allocate, h.called(), off, n).err(); err != nil {
		return d.failed(Allocate, h.name, err)
	}
	if off+n > int64(len(h.node.data)) {
		h.node.truncate(off + n)
	}
	return nil
}

func (h *handle) Truncate(n int64) error {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Truncate, h.called(), 0, 0).err(); err != nil {
		return d.failed(Truncate, h.name, err)
	}
	h.node.truncate(n)
	return nil
}

func (h *handle) Size() (int64, error) {
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(Size, h.called(), 0, 0).err(); err != nil {
		return 0, d.failed(Size, h.name, err)
	}
	return int64(len(h.node.data)), nil
}

func (h *handle) Close() error { return nil }
