package blockio

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moorage/core/tier/uring"
)

// File is what an engine needs of a file. FD is its descriptor, or -1 for one that is no file of the kernel's; then ReadAt and
// WriteAt are used.
type File interface {
	io.ReaderAt
	io.WriterAt
	FD() int
}

// Segment is a file that an engine knows.
type Segment struct {
	engine *Engine
	file   File
	fd     int
	direct bool
	path   Path         // the best for it
	target uring.Target // in every ring
	place  int          // in the table of files; -1: in none

	use     sync.RWMutex // held shared by operations, by Drop for good
	dropped atomic.Bool
}

// Add makes a file known. direct says that it was opened with O_DIRECT; an engine that may only read through the page cache
// takes that away from it. The file stays the caller's, who closes it after Drop.
func (e *Engine) Add(f File, direct bool) (*Segment, error) {
	const op = "add segment"
	if !e.life.TryRLock() {
		return nil, fail(op, ErrClosed)
	}
	defer e.life.RUnlock()
	s := &Segment{engine: e, file: f, fd: f.FD(), direct: direct, place: -1}
	switch {
	case s.fd < 0:
		s.path, s.direct = Layer, false
	case !direct:
		s.path = Buffered
	case e.rings == nil:
		s.path = Direct
	}
	s.path = max(s.path, e.options.MaxPath)
	if s.path >= Buffered && s.direct {
		if err := throughCache(s.fd); err != nil {
			return nil, fail(op, err)
		}
		s.direct = false
	}
	if s.path <= Uring {
		e.registerFile(s)
	}
	return s, nil
}

func throughCache(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	return err
}

// registerFile puts the file into all rings, or has them use the descriptor.
func (e *Engine) registerFile(s *Segment) {
	s.target = uring.Target{FD: int32(s.fd)}
	if e.files.size == 0 {
		return // there is no table, as was said before
	}
	place, ok := e.files.take()
	if !ok {
		e.without("full files", fmt.Sprintf("all %d places for registered descriptors are taken", e.options.Files))
		return
	}
	if err := e.eachRing(func(r *uring.Ring) error { return r.SetFile(place, s.fd) }); err != nil {
		_ = e.eachRing(func(r *uring.Ring) error { _ = r.SetFile(place, -1); return nil })
		e.files.give(place)
		e.without("files", fmt.Sprintf("descriptors are not registered with io_uring: %v", err))
		return
	}
	s.place, s.target = place, uring.Target{FD: int32(place), Fixed: true}
}

// Drop makes an engine forget a file, once the last operation that uses it has ended. The caller can close the file then.
func (e *Engine) Drop(s *Segment) error {
	const op = "drop segment"
	if s == nil || s.engine != e || s.dropped.Swap(true) {
		return fail(op, ErrDropped)
	}
	s.use.Lock()
	if s.place < 0 {
		return nil
	}
	if !e.life.TryRLock() {
		<-e.ended // with the rings
		return nil
	}
	defer e.life.RUnlock()
	err := e.eachRing(func(r *uring.Ring) error { return r.SetFile(s.place, -1) })
	e.files.give(s.place)
	if err != nil {
		return fail(op, err)
	}
	return nil
}

// move reads or writes once, by a system call or the file's own.
func (s *Segment) move(write bool, addr uintptr, n int, off int64) (moved int, err error) {
	p := bytesAt(addr, n)
	switch {
	case s.path == Layer && write:
		return s.file.WriteAt(p, off)
	case s.path == Layer:
		moved, err = s.file.ReadAt(p, off)
		if err == io.EOF {
			err = nil // the next one reads nothing
		}
		return moved, err
	case write:
		return unix.Pwrite(s.fd, p, off)
	default:
		return unix.Pread(s.fd, p, off)
	}
}

// places are the free ones of a table.
type places struct {
	mu   sync.Mutex
	size int
	next int   // from here on none was ever taken
	free []int // given back
}

func (p *places) make(n int) { p.size = n }

func (p *places) take() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		place := p.free[n-1]
		p.free = p.free[:n-1]
		return place, true
	}
	if p.next == p.size {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

func (p *places) give(place int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, place)
}
