package arena

// block describes one piece of the region, free or in use. Blocks lie off the
// Go heap and name each other by number; 0 is no block. The length is the
// distance to the next block, so that 32 bytes are enough.
type block struct {
	off        uint64
	prev, next uint32 // neighbours in the region
	// Meaningful in free blocks only; after also chains unused descriptors.
	before, after uint32 // neighbours in the list of the size class
	cold          uint32 // pages inside that were never touched
	state         uint32
}

const (
	stateUnused uint32 = iota // the descriptor describes nothing
	stateFree
	stateUsed
	stateSwept // taken out of the lists by trim or prefault
	stateEnd   // the mark behind the last byte
)

const (
	chunkBits = 16
	chunkLen  = 1 << chunkBits // descriptors, 2 MiB
)

type chunk [chunkLen]block

// backing is where the bookkeeping lives: mapped memory, or the Go heap under
// the race detector, which is blind to the former.
type backing interface {
	// chunk gives zeroed descriptors; number counts the chunks before it.
	chunk(number int) (*chunk, error)
	// words gives n zeroed words.
	words(n uint64) ([]uint64, error)
	// free gives everything back; nothing handed out may be used after it.
	free() error
}

// table numbers the descriptors. It grows by chunks and never shrinks.
type table struct {
	mem    backing
	chunks []*chunk
	top    uint32 // descriptors from here on were never used
	spare  uint32 // chain of those that are unused again
	spares uint32
}

func (t *table) at(b uint32) *block { return &t.chunks[b>>chunkBits][b&(chunkLen-1)] }

func (t *table) has(b uint32) bool { return b != 0 && b < t.top }

// reserve makes sure that n calls of take succeed.
func (t *table) reserve(n uint32) error {
	if t.spares >= n || uint64(t.top)+uint64(n) <= uint64(len(t.chunks))<<chunkBits {
		return nil
	}
	if len(t.chunks) == 1<<(32-chunkBits) {
		return failf("extent table", ErrMetadata, "all 2^32 descriptors are in use")
	}
	c, err := t.mem.chunk(len(t.chunks))
	if err != nil {
		return failf("extent table", ErrMetadata, "%w", err)
	}
	t.chunks = append(t.chunks, c)
	if t.top == 0 {
		t.top = 1
	}
	return nil
}

// take gives a descriptor; reserve has been called for it.
func (t *table) take() uint32 {
	if b := t.spare; b != 0 {
		t.spare = t.at(b).after
		t.spares--
		return b
	}
	t.top++
	return t.top - 1
}

func (t *table) give(b uint32) {
	*t.at(b) = block{after: t.spare}
	t.spare = b
	t.spares++
}

// carve cuts n bytes at start out of free block b and returns the block that
// is exactly these. It is in no list and its state is the caller's to set;
// cold is how many of b's cold pages go with it. What is left over on either
// side is free again. Two descriptors must have been reserved. The left piece
// keeps the number of b.
func (a *Extents) carve(b uint32, start, n uint64, cold uint32) uint32 {
	a.unlink(b)
	blk := a.blocks.at(b)
	left := blk.cold - cold
	blk.cold = cold
	head, tail := start-blk.off, a.blocks.at(blk.next).off-start-n

	// Cold pages lie whole inside one piece. The shorter one is counted.
	var headCold, tailCold uint32
	switch {
	case left == 0:
	case head <= tail:
		headCold = a.coldIn(blk.off, head)
		tailCold = left - headCold
	default:
		tailCold = a.coldIn(start+n, tail)
		headCold = left - tailCold
	}
	if tail > 0 {
		r := a.split(b, start+n)
		a.blocks.at(r).cold = tailCold
		a.link(r)
	}
	if head > 0 {
		m := a.split(b, start)
		a.blocks.at(m).cold = cold
		blk.cold = headCold
		a.link(b)
		return m
	}
	return b
}

func (a *Extents) coldIn(off, n uint64) uint32 {
	if n == 0 {
		return 0
	}
	lo, hi := a.pages.span(off, n)
	return uint32(a.pages.countCold(lo, hi))
}

// split ends block b at off and returns the new block behind it.
func (a *Extents) split(b uint32, off uint64) uint32 {
	r := a.blocks.take()
	blk := a.blocks.at(b)
	*a.blocks.at(r) = block{off: off, prev: b, next: blk.next}
	a.blocks.at(blk.next).prev = r
	blk.next = r
	return r
}

// release puts block b, which is in no list, among the free ones.
func (a *Extents) release(b uint32) {
	if p := a.blocks.at(b).prev; p != 0 && a.blocks.at(p).state == stateFree {
		a.unlink(p)
		a.absorb(p)
		b = p
	}
	if n := a.blocks.at(b).next; a.blocks.at(n).state == stateFree {
		a.unlink(n)
		a.absorb(b)
	}
	a.link(b)
}

// absorb joins block b with the one behind it; both are in no list.
func (a *Extents) absorb(b uint32) {
	blk := a.blocks.at(b)
	n := blk.next
	gone := a.blocks.at(n)
	blk.cold += gone.cold
	blk.next = gone.next
	a.blocks.at(gone.next).prev = b
	a.sweep.merged(n, b)
	a.blocks.give(n)
}

func (a *Extents) length(b uint32) uint64 {
	blk := a.blocks.at(b)
	return a.blocks.at(blk.next).off - blk.off
}
