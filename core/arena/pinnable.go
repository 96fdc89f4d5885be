package arena

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Pinnable maps n bytes at off once more, writable and with all pages there, so that a device can pin them: in the
// writer's mapping a published extent is read-only, and its page tables may be in the park. done takes the mapping away;
// what was pinned through it stays pinned. Fresh memory is asked for as an allocation would. Offset and length are
// multiples of the page size, or end with the region.
func (a *Arena) Pinnable(off, n uint64) (addr uintptr, done func() error, err error) {
	if err := a.warmFree(off, n); err != nil {
		return 0, nil, err
	}
	addr, err = a.mapAgain(off, n)
	if err != nil {
		return 0, nil, err
	}
	done = func() error { return fail("munmap", a.sys.munmap(addr, uintptr(n))) }
	a.gather(addr, off, n)
	// What is left belongs to objects, whose pages are there, and to reservations, which were asked for.
	if err := a.sys.madvise(addr, uintptr(n), unix.MADV_POPULATE_WRITE); err != nil && !errors.Is(err, unix.EINVAL) {
		return 0, nil, errors.Join(fail("madvise(MADV_POPULATE_WRITE)", err), done())
	}
	return addr, done, nil
}

// warmFree touches the free pages of a range that are cold, and remembers it: else trim would not give back what a
// device has made the kernel allocate. It does not wait for another sweep, which may take long; then trim learns of these
// pages when they are next used.
func (a *Arena) warmFree(off, n uint64) error {
	if !a.sweep.turn.TryLock() {
		return a.roomFor(a.coldBytes(off, n))
	}
	defer a.sweep.turn.Unlock()
	err := a.eachIn(off, off+n, false, fillStep, func(at, n uint64) (uint64, error) {
		if a.stop.Load() {
			return 0, fail("pin", ErrClosed)
		}
		if err := a.roomFor(n); err != nil {
			return 0, err
		}
		if err := a.Populate(at, n); err != nil {
			return 0, err
		}
		return n, nil
	})
	if errors.Is(err, ErrNoPopulate) {
		return nil // the device does it
	}
	return err
}

// coldBytes is how many bytes of a range were never touched.
func (a *Extents) coldBytes(off, n uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n == 0 || a.closed || off > a.size || n > a.size-off {
		return 0
	}
	lo, hi := a.pages.span(off, n)
	return a.pages.countCold(lo, hi) << a.pages.shift
}

// mapAgain maps a part of the memfd a fourth time. No child may inherit it: it could write to its parent's memory.
func (r *Region) mapAgain(off, n uint64) (uintptr, error) {
	if _, _, err := r.pagesOf("mmap", off, n); err != nil {
		return 0, err
	}
	r.tracker.Lock()
	defer r.tracker.Unlock()
	if _, err := r.stat(); err != nil {
		return 0, fail("fstat", err)
	}
	addr, err := r.mapLike(off, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, failf("mmap", err, "%d bytes of the region", n)
	}
	for _, advice := range [...]int{unix.MADV_DONTFORK, unix.MADV_DONTDUMP} {
		if err := r.sys.madvise(addr, uintptr(n), advice); err != nil {
			return 0, errors.Join(fail("madvise", err), r.sys.munmap(addr, uintptr(n)))
		}
	}
	return addr, nil
}
