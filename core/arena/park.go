package arena

import (
	"errors"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// parkMin is the length from which moving page tables is cheaper than changing
// their entries: two system calls more, and up to 2 MiB at either end go entry
// by entry after all.
const parkMin = 1 << 20

// park is a third mapping of the memory, with the rights of the writer's, whose
// addresses nobody is given and in which nothing is ever touched. While an
// extent is protected, its page table entries wait here: taking them out of the
// writer's mapping leaves mprotect nothing to walk, and with both addresses the
// same distance from a multiple of 2 MiB the kernel moves whole tables of 512
// entries. Putting them back makes the extent as warm as it was. No page moves,
// and no page is copied: what a device has registered, and what the other
// mappings show, stays as it is.
//
// All pieces have the same rights, so the park is one entry of the kernel's
// list of mappings, however many extents are protected.
type park struct {
	// base is a reservation of 2 MiB more than the region, in which at is the
	// address of offset 0. 0: there is none, or it may have lost a piece to
	// somebody else's mapping and must be left alone.
	base atomic.Uintptr
	at   uintptr
	// still is set when moving has failed once. From then on the region
	// protects as if there were no park; what waits in it stays until trim or
	// close, and costs the next writer page faults.
	still atomic.Bool
}

const moveFlags = unix.MREMAP_MAYMOVE | unix.MREMAP_DONTUNMAP

// openPark reserves the park. It is address space and nothing else, and where
// it is not to be had the region does without: with a limit on addresses, on
// kernels that cannot move shared memory this way (before Linux 5.13), and with
// huge pages, which have 1/512 of the entries.
func (r *Region) openPark(flags int) {
	if r.huge || r.size < parkMin || r.addressesLimited() || !r.canMove() {
		return
	}
	n := uintptr(r.size) + hugePage
	base, err := r.sys.mmap(0, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, -1, 0)
	if err != nil {
		return
	}
	at := base + (r.writer-base)%hugePage
	if err := r.mapAt(at, 0, r.size, flags|unix.MAP_FIXED); err != nil {
		_ = r.sys.munmap(base, n)
		return
	}
	r.park.at = at
	r.park.base.Store(base)
}

// mapAt maps a piece as the writer's mapping is.
func (r *Region) mapAt(addr uintptr, off, n uint64, flags int) error {
	if _, err := r.sys.mmap(addr, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, flags, r.fd, int64(off)); err != nil {
		return err
	}
	return r.sys.madvise(addr, uintptr(n), unix.MADV_DONTDUMP)
}

// canMove tries it on a page that nobody has touched, to a place that the
// kernel chooses: some kernels notice only after they have taken down what was
// at a chosen place that they cannot do it.
func (r *Region) canMove() bool {
	addr, err := r.sys.mremap(r.writer, uintptr(r.page), 0, moveFlags)
	return err == nil && r.sys.munmap(addr, uintptr(r.page)) == nil
}

// addressesLimited tells of RLIMIT_AS. The kernel looks at it in the middle of
// a move.
func (r *Region) addressesLimited() bool {
	var l unix.Rlimit
	return r.sys.getrlimit(unix.RLIMIT_AS, &l) != nil || l.Cur != math.MaxUint64
}

func (r *Region) dropPark() error {
	base := r.park.base.Swap(0)
	if base == 0 {
		return nil
	}
	return fail("munmap", r.sys.munmap(base, uintptr(r.size)+hugePage))
}

// parked reports whether an extent of n bytes has its entries in the park while
// it is protected.
func (r *Region) parked(n uint64) bool {
	return n >= parkMin && r.park.base.Load() != 0 && !r.park.still.Load()
}

// intoPark takes the entries of a range out of the writer's mapping, outOfPark
// puts them back. The range stays mapped throughout: a thread that touches it
// meanwhile waits for the kernel, or finds the same bytes by a page fault.
func (r *Region) intoPark(off, n uint64) error {
	return r.move(r.writer, r.park.at, off, n)
}

func (r *Region) outOfPark(off, n uint64) error {
	return r.move(r.park.at, r.writer, off, n)
}

// move fails only when a hole may be left where it wanted to move to.
func (r *Region) move(from, to uintptr, off, n uint64) error {
	if !r.addressesLimited() {
		_, err := r.sys.mremap(from+uintptr(off), uintptr(n), to+uintptr(off), moveFlags|unix.MREMAP_FIXED)
		if err == nil {
			return nil
		}
	}
	r.park.still.Store(true)
	return r.mend(to+uintptr(off), off, n)
}

// mend maps again what a move that failed has taken down. Before most failures
// the kernel has not come that far.
func (r *Region) mend(addr uintptr, off, n uint64) error {
	err := r.mapAt(addr, off, n, unix.MAP_SHARED|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
