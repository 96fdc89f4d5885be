package arena

import (
	"time"

	"golang.org/x/sys/unix"
)

// gatherPatience is how long one call gathers. What it has not come to stays in
// ordinary pages.
const gatherPatience = 250 * time.Millisecond

// gather makes huge pages of the whole 2 MiB pieces of a range, which is mapped
// at addr: nearly all of what devices and processors do with memory is cheaper
// there, and a disk behind a virtual machine moves it in one piece instead of
// 512. This needs neither an administrator nor a setting (MADV_COLLAPSE, from
// Linux 6.1, asks no sysfs file); what was in the pages is there afterwards, at
// the same offset, for every mapping. All of the range is going to be touched
// anyway, so it takes no memory more.
//
// It is a wish: a piece that has no huge page to go to, or that a device holds,
// stays as it is.
func (r *Region) gather(addr uintptr, off, n uint64) {
	began := time.Now()
	for at := up(off, hugePage); at+hugePage <= off+n; at += hugePage {
		here := addr + uintptr(at-off)
		if !r.gathers || here%hugePage != 0 || time.Since(began) > gatherPatience {
			return
		}
		// The kernel passes over pieces in which no page is there.
		if r.sys.madvise(here, uintptr(r.page), unix.MADV_POPULATE_WRITE) != nil {
			return
		}
		if r.sys.madvise(here, hugePage, unix.MADV_COLLAPSE) == unix.EINVAL {
			return // a kernel that does not know it, or may not
		}
	}
}

// mapLike maps n bytes of the memfd at off, at an address that is as far from a
// multiple of 2 MiB as the offset: only then can the page tables name huge pages.
// Where there is no room to choose from, anywhere will do.
func (r *Region) mapLike(off, n uint64, prot, flags int) (uintptr, error) {
	if n >= hugePage && r.gathers {
		if addr, err := r.mapAligned(off, n, prot, flags); err == nil {
			return addr, nil
		}
	}
	return r.sys.mmap(0, uintptr(n), prot, flags, r.fd, int64(off))
}

// mapAligned reserves 2 MiB more than it wants, and gives the rest back.
func (r *Region) mapAligned(off, n uint64, prot, flags int) (uintptr, error) {
	room := uintptr(n) + hugePage
	base, err := r.sys.mmap(0, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, -1, 0)
	if err != nil {
		return 0, err
	}
	head := (uintptr(off) - base) % hugePage
	addr, err := r.sys.mmap(base+head, uintptr(n), prot, flags|unix.MAP_FIXED, r.fd, int64(off))
	if err != nil {
		_ = r.sys.munmap(base, room)
		return 0, err
	}
	if head > 0 {
		err = r.sys.munmap(base, head)
	}
	if err == nil {
		err = r.sys.munmap(addr+uintptr(n), hugePage-head)
	}
	if err != nil { // too many mappings, for one
		_ = r.sys.munmap(base, room)
		return 0, err
	}
	return addr, nil
}
