package arena

import (
	"math/bits"
	"sync"
)

const (
	// grain is the unit of lengths and the least alignment: a cache line.
	grain = 64
	// smallLimit is where extents begin to own whole pages.
	smallLimit = 32 << 10
	// devicePage is what a device rounds its transfers to.
	devicePage = 4 << 10
	// cowPage is the largest page for which an extent that owns whole device
	// pages also owns whole pages of the mapping. Larger pages (hugetlb) would
	// cost a 32 KiB tensor 2 MiB, and have no copy-on-write windows anyway.
	cowPage = 64 << 10
)

// Extent is a piece of a region. Off and Len are in bytes; Len is what was
// asked for, rounded up. Block is the allocator's name for it and goes to
// Free.
type Extent struct {
	Off, Len uint64
	Block    uint32
	// Region is the number of the region within its store.
	Region uint16
}

// Extents allocates pieces of the offsets 0 … size by two-level segregated
// fit: free blocks hang in lists by size class (32 classes to a power of two),
// two bitmaps find the next class with anything in it, and a freed block is
// merged with its neighbours at once. All of it is O(1): the only loops go
// over the bits of the pages of one extent and over a bounded number of list
// entries.
//
// Two sets of lists are kept: blocks that are warm throughout, and the rest.
// The warm ones are tried first.
//
// An Extents is safe for concurrent use.
type Extents struct {
	size, page, large uint64
	// admit is asked, with mu held, before cold pages are handed out. The
	// allocation fails with its error and nothing has changed.
	admit func(fresh, touched uint64) error
	mem   backing

	mu     sync.Mutex
	blocks table
	warm   bins
	rest   bins
	pages  pageMap
	used   uint64
	live   uint64
	idle   uint64 // free blocks
	cold   uint64 // pages never touched, or given back
	sweep  sweep
	closed bool
}

// NewExtents makes an allocator for size bytes in pages of page bytes (a power
// of two, at least 4 KiB); size is a multiple of page and at least one page.
func NewExtents(size, page uint64) (*Extents, error) {
	return newExtents(size, page, newBacking())
}

func newExtents(size, page uint64, mem backing) (*Extents, error) {
	if page < devicePage || page&(page-1) != 0 || size < page || size%page != 0 {
		return nil, failf("new extents", ErrOption, "size %d, page %d", size, page)
	}
	if size/page > 1<<31 {
		return nil, failf("new extents", ErrOption, "size %d is more than 2^31 pages of %d", size, page)
	}
	a := &Extents{size: size, page: page, large: page, mem: mem}
	if page > cowPage {
		a.large = devicePage
	}
	a.sweep.init(&a.mu)
	a.blocks.mem = mem
	if err := a.layOut(); err != nil {
		_ = mem.free()
		return nil, err
	}
	return a, nil
}

// layOut makes the first state: one cold block, and behind it the end mark,
// which is in use for ever and so spares every merge the question whether
// there is a neighbour.
func (a *Extents) layOut() error {
	words, err := a.mem.words((a.size/a.page + 63) / 64)
	if err != nil {
		return fail("page map", err)
	}
	a.pages = pageMap{words: words, shift: uint(bits.TrailingZeros64(a.page))}
	if err := a.blocks.reserve(2); err != nil {
		return err
	}
	end, all := a.blocks.take(), a.blocks.take()
	a.cold = a.size / a.page
	*a.blocks.at(end) = block{off: a.size, prev: all, state: stateEnd}
	*a.blocks.at(all) = block{next: end, cold: uint32(a.cold)}
	a.sweep.first = all
	a.link(all)
	return nil
}

// Alloc gives an extent of at least n bytes; n = 0 counts as 1. Under 32 KiB
// it begins on a cache line and its length is a multiple of one. From 32 KiB
// up, and whatever the size when pages is set, it owns whole pages. With pages
// set these are pages of the region (2 MiB with huge pages), as protection and
// trim need them; otherwise, with huge pages, device pages of 4 KiB.
//
// It fails with ErrNoSpace, ErrMemoryLimit, ErrMetadata or ErrClosed, and then
// has changed nothing.
func (a *Extents) Alloc(n uint64, pages bool) (Extent, error) {
	align := uint64(grain)
	if pages {
		align = a.page
	} else if n >= smallLimit {
		align = a.large
	}
	if n > a.size {
		return Extent{}, failf("alloc", ErrNoSpace, "%d bytes wanted, the region has %d", n, a.size)
	}
	n = up(max(n, 1), align)

	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		e, err := a.alloc(n, align)
		if err == nil || !a.sweep.await() {
			return e, err
		}
	}
}

func (a *Extents) alloc(n, align uint64) (Extent, error) {
	if a.closed {
		return Extent{}, fail("alloc", ErrClosed)
	}
	b := a.find(&a.warm, n, align)
	if b == 0 {
		b = a.find(&a.rest, n, align)
	}
	if b == 0 {
		return Extent{}, failf("alloc", ErrNoSpace, "%d bytes wanted, the longest free extent has %d (%d of %d in use)",
			n, a.largest(), a.used, a.size)
	}
	if err := a.blocks.reserve(2); err != nil {
		return Extent{}, err
	}
	start := a.place(b, n, align)
	lo, hi := a.pages.span(start, n)
	var fresh uint64
	if a.blocks.at(b).cold > 0 {
		if fresh = a.pages.countCold(lo, hi); fresh > 0 {
			if a.admit != nil {
				if err := a.admit(fresh*a.page, a.touched()); err != nil {
					return Extent{}, err
				}
			}
			a.pages.set(lo, hi)
			a.cold -= fresh
		}
	}
	b = a.carve(b, start, n, uint32(fresh))
	blk := a.blocks.at(b)
	blk.state, blk.cold = stateUsed, 0
	a.used += n
	a.live++
	return Extent{Off: start, Len: n, Block: b}, nil
}

// Free gives an extent back and merges it with free neighbours. A block that
// is not in use is refused with ErrBadBlock.
func (a *Extents) Free(b uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fail("free", ErrClosed)
	}
	if !a.blocks.has(b) || a.blocks.at(b).state != stateUsed {
		return failf("free", ErrBadBlock, "block %d", b)
	}
	a.used -= a.length(b)
	a.live--
	a.release(b)
	return nil
}

// Len is the length of an extent in use, 0 for any other block.
func (a *Extents) Len(b uint32) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || !a.blocks.has(b) || a.blocks.at(b).state != stateUsed {
		return 0
	}
	return a.length(b)
}

// Close gives the bookkeeping back, after a sweep that may be under way.
// Further calls fail with ErrClosed.
func (a *Extents) Close() error {
	a.sweep.turn.Lock()
	defer a.sweep.turn.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	a.blocks, a.pages = table{mem: a.mem}, pageMap{}
	return a.mem.free()
}

// up rounds v up to a multiple of the power of two to, down down.
func up(v, to uint64) uint64   { return (v + to - 1) &^ (to - 1) }
func down(v, to uint64) uint64 { return v &^ (to - 1) }
