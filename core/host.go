package core

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"moorage/core/arena/cell"
	"moorage/core/registry"
	"moorage/core/tensor"
)

// copyStep is how much is copied between two looks at a store's closing flag.
const copyStep = 64 << 20

// Copy copies n bytes between two addresses. It may stop early and report false once closing is set.
type Copy func(dst, src, n uintptr, closing *atomic.Uint32) bool

// Child is a forked child to watch.
type Child struct {
	Slot  uint32
	Pipe  int // read end of a pipe whose write end only the child and its descendants have
	Token int // memfd that they keep mapped: it cannot be sealed against writing until the last of them is gone
}

// Host is what the stores of a process share: the words of the pin protocol, the way to copy, and one goroutine that
// takes closed stores down and learns when forked children end. It lives as long as the process.
type Host struct {
	words     *cell.Process
	copy      Copy
	nextChild func() (Child, bool)
	readOnly  func(addr uintptr, n uint64) bool // nil: nobody knows of any

	locks *registry.Locks

	unended   atomic.Int64
	protected atomic.Int64 // extents of all stores whose writer's pages are read-only

	mu     sync.Mutex
	wake   *os.File
	stores map[*Store]struct{}
}

// NewHost makes a host over the given words; nil makes its own. copy may be nil for a plain Go one. nextChild gives
// children to watch one by one and may be nil when nobody forks.
func NewHost(words *cell.Process, copy Copy, nextChild func() (Child, bool)) *Host {
	if words == nil {
		words = new(cell.Process)
		words.Wake.Store(-1)
	}
	if copy == nil {
		copy = copyGo
	}
	return &Host{
		words: words, copy: copy, nextChild: nextChild, locks: registry.NewLocks(), stores: map[*Store]struct{}{},
	}
}

// RefuseWrites says which memory must not be written to, for copies out. Before the first store is opened.
func (h *Host) RefuseWrites(readOnly func(addr uintptr, n uint64) bool) { h.readOnly = readOnly }

var defaultHost = sync.OnceValue(func() *Host { return NewHost(nil, nil, nil) })

func copyGo(dst, src, n uintptr, closing *atomic.Uint32) bool {
	for n > copyStep {
		tensor.CopyGo(dst, src, copyStep)
		dst, src, n = dst+copyStep, src+copyStep, n-copyStep
		if closing.Load() != 0 {
			return false
		}
	}
	tensor.CopyGo(dst, src, n)
	return true
}

// add takes up a store that was opened, and starts the watcher with the first.
func (h *Host) add(s *Store) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wake == nil {
		fd := int(h.words.Wake.Load())
		if fd < 0 {
			var err error
			if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
				return fmt.Errorf("%w: eventfd: %w", ErrSystem, err)
			}
			h.words.Wake.Store(int32(fd))
		}
		h.wake = os.NewFile(uintptr(fd), "moorage wake")
		go h.watch(h.wake)
	}
	h.stores[s] = struct{}{}
	return nil
}

func (h *Host) remove(s *Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.stores, s)
}

func (h *Host) each(do func(*Store)) {
	h.mu.Lock()
	all := make([]*Store, 0, len(h.stores))
	for s := range h.stores {
		all = append(all, s)
	}
	h.mu.Unlock()
	for _, s := range all {
		do(s)
	}
}

// watch waits for the wake eventfd: a fork handler has a new child, or a release pushed into a closed store.
func (h *Host) watch(wake *os.File) {
	var counter [8]byte
	for {
		if _, err := wake.Read(counter[:]); err != nil {
			return // closed by somebody: closed stores are still drained by the next Close, children held for ever
		}
		for h.nextChild != nil {
			c, ok := h.nextChild()
			if !ok {
				break
			}
			h.unended.Add(1)
			go h.follow(c)
		}
		h.each((*Store).drainIfClosed)
	}
}

// Children is the number of forked children that are known to live.
func (h *Host) Children() int { return int(h.unended.Load()) }

// follow waits until a child and all its descendants are gone. The pipe is the signal, the token the proof: a child may
// close descriptors that it does not know, but it keeps the mapping.
func (h *Host) follow(c Child) {
	_ = unix.SetNonblock(c.Pipe, true)
	pipe := os.NewFile(uintptr(c.Pipe), "moorage child")
	var b [1]byte
	_, _ = pipe.Read(b[:])
	_ = pipe.Close()
	for wait := time.Millisecond; !unmapped(c.Token); wait = min(2*wait, 50*time.Millisecond) {
		time.Sleep(wait)
	}
	_ = unix.Close(c.Token)
	h.words.ChildEnded(c.Slot)
	h.unended.Add(-1)
	h.each((*Store).drainHeld)
}

// unmapped reports whether nobody maps the memfd writable any more. A descriptor that was closed or reused by
// somebody proves nothing, and the child counts as living for ever.
func unmapped(token int) bool {
	_, err := unix.FcntlInt(uintptr(token), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	return err == nil
}
