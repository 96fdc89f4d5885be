package registry

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Locks knows which pages this process has locked for registrations. The kernel does not count locks: of ranges that
// share a page, only the last may unlock it. So all registries of a process share one. Safe for concurrent use.
type Locks struct {
	sys kernel

	mu  sync.Mutex
	set ranges[struct{}] // whole pages
	id  uint64
}

// NewLocks makes one.
func NewLocks() *Locks { return &Locks{sys: linux} }

// pages are whole pages that are locked. The zero value is none.
type pages struct {
	start, end uintptr
	id         uint64
}

// lock locks the pages that n bytes at addr touch. After an error those are locked that were before.
func (l *Locks) lock(addr, n uintptr) (pages, error) {
	page := uintptr(os.Getpagesize())
	p := pages{start: addr &^ (page - 1), end: (addr + n + page - 1) &^ (page - 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sys.mlock(p.start, p.end-p.start); err != nil {
		err = l.sys.explain("mlock", err, uint64(p.end-p.start))
		return pages{}, errors.Join(err, l.unlockRest(p)) // it may have come half of the way
	}
	l.id++
	p.id = l.id
	l.set.insert(entry[struct{}]{start: p.start, end: p.end, id: p.id})
	return p, nil
}

// unlock ends a lock. Pages that another one covers stay locked.
func (l *Locks) unlock(p pages) error {
	if p.id == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set.remove(p.start, p.id)
	return l.unlockRest(p)
}

// unlockRest unlocks what no lock covers. mu is locked.
func (l *Locks) unlockRest(p pages) (err error) {
	if _, whole := l.set.find(p.start, p.end); whole {
		return nil
	}
	var covered stretches
	l.set.overlapping(p.start, p.end, func(from, to uintptr) bool {
		covered = append(covered, stretch{from, to})
		return true
	})
	covered.gaps(p.start, p.end, func(from, to uintptr) {
		// ENOMEM: the caller has unmapped it, and with that unlocked it.
		if e := l.sys.munlock(from, to-from); e != nil && !errors.Is(e, unix.ENOMEM) {
			err = errors.Join(err, fail("munlock", fmt.Errorf("%w: %w", ErrSystem, e)))
		}
	})
	return err
}

type stretch struct{ from, to uintptr }

// stretches stand in the order of falling starts, and may overlap.
type stretches []stretch

// gaps visits what of start … end lies in none of them.
func (s stretches) gaps(start, end uintptr, visit func(from, to uintptr)) {
	for i := len(s) - 1; i >= 0 && start < end; i-- {
		if s[i].from > start {
			visit(start, s[i].from)
		}
		start = max(start, s[i].to)
	}
	if start < end {
		visit(start, end)
	}
}

// explain turns the ENOMEM or EPERM of a call that locks or pins into a MemlockError if the limit is why.
func (k kernel) explain(op string, err error, asked uint64) error {
	limit := k.memlock()
	short := errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM)
	if locked, pinned := k.used(); short && locked+pinned+asked > limit {
		return fail(op, fmt.Errorf("%w (%w)", &MemlockError{limit, asked, locked, pinned}, err))
	}
	return fail(op, fmt.Errorf("%w: %w", ErrSystem, err))
}
