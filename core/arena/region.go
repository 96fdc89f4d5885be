package arena

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the huge pages used.
const hugePage = 2 << 20

// regionName is what /proc/self/maps calls the memory ("memfd:moorage").
const regionName = "moorage"

// Region is memory that a store keeps its objects in: one memfd, close-on-exec
// and sealed against growing and shrinking, mapped twice for its users and once
// for itself (the park). The whole capacity is reserved as address space; memory
// is used when it is touched. None of the mappings goes into a core file.
//
// A Region is safe for concurrent use until Close.
type Region struct {
	sys            kernel
	tracker        Tracker
	fd             int
	dev, ino       uint64 // of the memfd: somebody may close fd, and its number be another file's then
	size, page     uint64
	writer, reader uintptr
	huge           bool // hugetlb pages
	gathers        bool // ordinary pages into transparent huge ones
	park           park
	closed         atomic.Bool
}

// OpenRegion makes a region. It looks at Size, HugePages and Tracker of the
// options. When it fails nothing is left behind.
func OpenRegion(o Options) (*Region, error) { return openRegion(linux, o) }

func openRegion(sys kernel, o Options) (*Region, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.HugePages == HugePagesOff || o.HugePages == HugePagesAuto {
		return mapRegion(sys, o, false)
	}
	r, err := mapRegion(sys, o, true)
	if err == nil {
		return r, nil
	}
	if o.HugePages == HugePagesTry {
		return mapRegion(sys, o, false)
	}
	return nil, failf("open region", ErrHugePages,
		"hugepages=require wants %d pages of 2 MiB: raise /proc/sys/vm/nr_hugepages (and the hugetlb limit of the control group), or choose hugepages=try: %w",
		up(o.size(), hugePage)/hugePage, err)
}

// mapRegion does one attempt. Every step that succeeded is undone by the
// deferred close when a later one fails.
func mapRegion(sys kernel, o Options, huge bool) (r *Region, err error) {
	r = &Region{sys: sys, tracker: o.tracker(), fd: -1, page: uint64(os.Getpagesize()), huge: huge}
	flags, mapFlags := unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING, unix.MAP_SHARED
	if huge {
		// No MAP_NORESERVE: the pages are reserved by mmap, so that a
		// shortage is an error here and not a SIGBUS at the first touch.
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
		r.page = hugePage
	} else {
		mapFlags |= unix.MAP_NORESERVE
	}
	r.size = up(o.size(), r.page)
	r.tracker.Lock()
	defer r.tracker.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, r.drop())
			r = nil
		}
	}()
	if r.fd, err = sys.memfdCreate(regionName, flags); err != nil {
		r.fd = -1
		return r, fail("memfd_create", err)
	}
	var st unix.Stat_t
	if err = sys.fstat(r.fd, &st); err != nil {
		return r, fail("fstat", err)
	}
	r.dev, r.ino = st.Dev, st.Ino
	if err = sys.ftruncate(r.fd, int64(r.size)); err != nil {
		return r, failf("ftruncate", err, "region of %d bytes; a smaller capacity may do", r.size)
	}
	if err = sys.addSeals(r.fd, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return r, fail("fcntl(F_ADD_SEALS)", err)
	}
	r.gathers = !huge && o.HugePages != HugePagesOff
	if r.writer, err = r.mapOnce(unix.PROT_READ|unix.PROT_WRITE, mapFlags); err != nil {
		return r, err
	}
	if r.reader, err = r.mapOnce(unix.PROT_READ, mapFlags); err != nil {
		return r, err
	}
	if err = r.tryHugePage(); err != nil {
		return r, err
	}
	r.openPark(mapFlags)
	return r, fail("track mapping", r.tracker.Add(r.mapping()))
}

func (r *Region) mapOnce(prot, flags int) (uintptr, error) {
	addr, err := r.mapLike(0, r.size, prot, flags)
	if err != nil {
		return 0, failf("mmap", err, "region of %d bytes; a smaller capacity may do", r.size)
	}
	if err := r.sys.madvise(addr, uintptr(r.size), unix.MADV_DONTDUMP); err != nil {
		return 0, errors.Join(fail("madvise(MADV_DONTDUMP)", err), r.unmap(addr))
	}
	return addr, nil
}

// tryHugePage fills one huge page: a reservation does not help when the
// control group's limit or the NUMA policy then refuses the page.
func (r *Region) tryHugePage() error {
	if !r.huge {
		return nil
	}
	err := r.Populate(0, r.page)
	if errors.Is(err, ErrNoPopulate) {
		return nil
	}
	return err
}

// Close unmaps everything and closes the memfd. The first call does the
// work, whatever it returns; further calls return nil.
func (r *Region) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.tracker.Lock()
	defer r.tracker.Unlock()
	r.tracker.Remove(r.mapping())
	return r.drop()
}

// drop gives back whatever is there. The tracker is locked.
func (r *Region) drop() error {
	err := errors.Join(r.unmap(r.writer), r.unmap(r.reader), r.dropPark())
	if r.fd >= 0 {
		err = errors.Join(err, r.closeFile())
	}
	r.writer, r.reader, r.fd = 0, 0, -1
	return err
}

// closeFile closes the memfd, and no file of somebody else's.
func (r *Region) closeFile() error {
	if _, err := r.stat(); r.ino != 0 && errors.Is(err, unix.EBADF) {
		return fail("close", err)
	}
	return fail("close", r.sys.close(r.fd))
}

// stat asks for the memfd. EBADF: somebody has closed it.
func (r *Region) stat() (st unix.Stat_t, err error) {
	if err := r.sys.fstat(r.fd, &st); err != nil {
		return st, err
	}
	if st.Dev != r.dev || st.Ino != r.ino {
		return st, unix.EBADF
	}
	return st, nil
}

func (r *Region) unmap(addr uintptr) error {
	if addr == 0 {
		return nil
	}
	return fail("munmap", r.sys.munmap(addr, uintptr(r.size)))
}

func (r *Region) mapping() Mapping {
	return Mapping{FD: r.fd, Addr: r.writer, Reader: r.reader, Park: r.park.at, Len: uintptr(r.size), Huge: r.huge}
}

// WriterAddr is the address of offset off in the read-write mapping.
func (r *Region) WriterAddr(off uint64) uintptr { return r.writer + uintptr(off) }

// ReaderAddr is the address of offset off in the read-only mapping.
func (r *Region) ReaderAddr(off uint64) uintptr { return r.reader + uintptr(off) }

// FD is the memfd; it belongs to the region.
func (r *Region) FD() int { return r.fd }

// Size is the capacity in bytes, a multiple of PageSize.
func (r *Region) Size() uint64 { return r.size }

// PageSize is 2 MiB with huge pages, else that of the machine.
func (r *Region) PageSize() uint64 { return r.page }

// HugePages says whether the region really has huge pages.
func (r *Region) HugePages() bool { return r.huge }

// Contains gives the offset of an address of either mapping.
func (r *Region) Contains(addr uintptr) (off uint64, ok bool) {
	for _, base := range [2]uintptr{r.writer, r.reader} {
		if addr >= base && addr-base < uintptr(r.size) {
			return uint64(addr - base), true
		}
	}
	return 0, false
}

// Protect makes the pages that hold the range read-only in the writer's
// mapping. Whoever writes there afterwards dies, which is the point: the range
// should own whole pages. A write beside this call lands or dies. Whoever reads
// there takes the page faults again if the range is long enough for the park.
func (r *Region) Protect(off, n uint64) error {
	const op = "mprotect(PROT_READ)"
	from, n, err := r.pagesOf(op, off, n)
	if err != nil || n == 0 {
		return err
	}
	if r.parked(n) && r.intoPark(from, n) != nil {
		r.park.base.Store(0) // leaves it mapped: what fills the hole is not ours to unmap
	}
	if err := r.sys.mprotect(r.writer+uintptr(from), uintptr(n), unix.PROT_READ); err != nil {
		return errors.Join(fail(op, err), r.comeBack(from, n))
	}
	return nil
}

// Unprotect undoes Protect. After an error the range must not be used.
func (r *Region) Unprotect(off, n uint64) error {
	const op = "mprotect(PROT_READ|PROT_WRITE)"
	from, n, err := r.pagesOf(op, off, n)
	if err != nil || n == 0 {
		return err
	}
	if err := r.sys.mprotect(r.writer+uintptr(from), uintptr(n), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fail(op, err)
	}
	return r.comeBack(from, n)
}

func (r *Region) comeBack(off, n uint64) error {
	if !r.parked(n) {
		return nil
	}
	return fail("mremap", r.outOfPark(off, n))
}

// Punch gives the pages of a range back to the system; they read as zero
// afterwards. Offset and length are multiples of the page size.
func (r *Region) Punch(off, n uint64) error {
	const op = "fallocate(PUNCH_HOLE)"
	if off%r.page != 0 || n%r.page != 0 {
		return failf(op, ErrRange, "%d bytes at %d are not whole pages of %d", n, off, r.page)
	}
	if _, n, err := r.pagesOf(op, off, n); err != nil || n == 0 {
		return err
	}
	return fail(op, r.sys.fallocate(r.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
}

// Populate fills the pages of a range and the page tables of both mappings, so
// that no later access faults; it gathers them into huge pages before. Contents
// are left alone. It fails with ErrNoPopulate where the kernel cannot do it:
// touching by hand would be the alternative, and that ends in a signal when
// memory is short.
func (r *Region) Populate(off, n uint64) error {
	const op = "madvise(MADV_POPULATE)"
	from, n, err := r.pagesOf(op, off, n)
	if err != nil || n == 0 {
		return err
	}
	r.gather(r.writer+uintptr(from), from, n)
	err = r.sys.madvise(r.writer+uintptr(from), uintptr(n), unix.MADV_POPULATE_WRITE)
	if err == nil {
		err = r.sys.madvise(r.reader+uintptr(from), uintptr(n), unix.MADV_POPULATE_READ)
	}
	if errors.Is(err, unix.EINVAL) {
		return fail(op, ErrNoPopulate)
	}
	return fail(op, err)
}

// Resident is how much memory stands behind the region, whichever mapping
// touched it. (RSS counts a page once per mapping.)
func (r *Region) Resident() (uint64, error) {
	st, err := r.stat()
	if err != nil {
		return 0, fail("fstat", err)
	}
	return uint64(st.Blocks) * 512, nil
}

// pagesOf widens a range to whole pages.
func (r *Region) pagesOf(op string, off, n uint64) (from, length uint64, err error) {
	if r.closed.Load() {
		return 0, 0, fail(op, ErrClosed)
	}
	if off > r.size || n > r.size-off {
		return 0, 0, failf(op, ErrRange, "%d bytes at %d, the region has %d", n, off, r.size)
	}
	if n == 0 {
		return off, 0, nil
	}
	from = down(off, r.page)
	return from, up(off+n, r.page) - from, nil
}
