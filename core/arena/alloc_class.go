package arena

import "math/bits"

const (
	colBits = 5 // 32 classes to a power of two: a class is 3 % wide
	cols    = 1 << colBits
	rows    = 48
	// ownProbes is how many blocks of the class of the wanted length are
	// looked at, which may each be a little too short.
	ownProbes = 4
	// nearProbes is the same for the next classes, whose blocks are long
	// enough but may not be once their start is aligned.
	nearProbes = 2
)

// bins are the heads of the free lists by size class. Bit r of rowMap says
// that row r has a list that is not empty, bit c of colMap[r] that list c has.
type bins struct {
	rowMap uint64
	colMap [rows]uint32
	head   [rows * cols]uint32
}

// class is the list of blocks of n bytes: exact below 32 grains, above it by
// the position of the highest bit and the five bits behind it.
func class(n uint64) int {
	u := n / grain
	if u < cols {
		return int(u)
	}
	lg := bits.Len64(u) - 1
	return (lg-colBits+1)<<colBits | int(u>>(lg-colBits))&(cols-1)
}

// next is the first class from c on that has a block, or -1.
func (s *bins) next(c int) int {
	row := c >> colBits
	if row >= rows {
		return -1
	}
	if m := s.colMap[row] >> (c & (cols - 1)); m != 0 {
		return c + bits.TrailingZeros32(m)
	}
	m := s.rowMap &^ (2<<row - 1)
	if m == 0 {
		return -1
	}
	row = bits.TrailingZeros64(m)
	return row<<colBits | bits.TrailingZeros32(s.colMap[row])
}

// top is the highest class that has a block, or -1.
func (s *bins) top() int {
	if s.rowMap == 0 {
		return -1
	}
	row := bits.Len64(s.rowMap) - 1
	return row<<colBits | (bits.Len32(s.colMap[row]) - 1)
}

func (a *Extents) bins(cold uint32) *bins {
	if cold == 0 {
		return &a.warm
	}
	return &a.rest
}

// link puts b at the head of its list and marks it free.
func (a *Extents) link(b uint32) {
	blk := a.blocks.at(b)
	s, c := a.bins(blk.cold), class(a.length(b))
	h := s.head[c]
	blk.before, blk.after, blk.state = 0, h, stateFree
	if h != 0 {
		a.blocks.at(h).before = b
	}
	s.head[c] = b
	s.rowMap |= 1 << (c >> colBits)
	s.colMap[c>>colBits] |= 1 << (c & (cols - 1))
	a.idle++
}

// unlink takes b out of its list. Its cold pages must be as they were at link.
func (a *Extents) unlink(b uint32) {
	blk := a.blocks.at(b)
	if blk.after != 0 {
		a.blocks.at(blk.after).before = blk.before
	}
	a.idle--
	if blk.before != 0 {
		a.blocks.at(blk.before).after = blk.after
		return
	}
	s, c := a.bins(blk.cold), class(a.length(b))
	s.head[c] = blk.after
	if blk.after != 0 {
		return
	}
	row := c >> colBits
	s.colMap[row] &^= 1 << (c & (cols - 1))
	if s.colMap[row] == 0 {
		s.rowMap &^= 1 << row
	}
}

// find gives a block of s that holds n bytes at a multiple of align, or 0.
func (a *Extents) find(s *bins, n, align uint64) uint32 {
	own := class(n)
	sure := class(n+align-grain) + 1 // whatever lies here is long enough
	for c := s.next(own); c >= 0; c = s.next(c + 1) {
		if c >= sure {
			return s.head[c]
		}
		probes := nearProbes
		if c == own {
			probes = ownProbes
		}
		for b := s.head[c]; b != 0 && probes > 0; probes-- {
			if a.fits(b, n, align) {
				return b
			}
			b = a.blocks.at(b).after
		}
	}
	return 0
}

func (a *Extents) fits(b uint32, n, align uint64) bool {
	blk := a.blocks.at(b)
	return up(blk.off, align)+n <= a.blocks.at(blk.next).off
}

// place says where in free block b an extent goes. Whole pages go to the
// front and small extents to the back, so that the small ones, which live in
// shared pages, gather. If that end is cold and the other one warm, it is the
// other way round.
func (a *Extents) place(b uint32, n, align uint64) uint64 {
	blk := a.blocks.at(b)
	front, back := up(blk.off, align), down(a.blocks.at(blk.next).off-n, align)
	if blk.cold > 0 {
		frontWarm, backWarm := a.pages.warm(front), a.pages.warm(back+n-1)
		if frontWarm != backWarm {
			if frontWarm {
				return front
			}
			return back
		}
	}
	if align == grain {
		return back
	}
	return front
}
