package arena

import "math/bits"

// pageMap has a bit for every page of the region: set when it is warm.
// Page ranges are half open.
type pageMap struct {
	words []uint64
	shift uint
}

// span is the range of pages that n > 0 bytes at off touch.
func (m *pageMap) span(off, n uint64) (lo, hi uint64) {
	return off >> m.shift, (off+n-1)>>m.shift + 1
}

// inside is the range of pages that lie whole in [off, end); it may be empty
// with lo > hi.
func (m *pageMap) inside(off, end uint64) (lo, hi uint64) {
	return (off + 1<<m.shift - 1) >> m.shift, end >> m.shift
}

func (m *pageMap) warm(off uint64) bool {
	p := off >> m.shift
	return m.words[p/64]>>(p%64)&1 != 0
}

// mask is the bits of word w that belong to the pages lo … hi.
func mask(w, lo, hi uint64) uint64 {
	v := ^uint64(0)
	if w == lo/64 {
		v <<= lo % 64
	}
	if w == (hi-1)/64 {
		v &= ^uint64(0) >> (63 - (hi-1)%64)
	}
	return v
}

func (m *pageMap) countCold(lo, hi uint64) (n uint64) {
	for w := lo / 64; w <= (hi-1)/64; w++ {
		n += uint64(bits.OnesCount64(^m.words[w] & mask(w, lo, hi)))
	}
	return n
}

func (m *pageMap) set(lo, hi uint64) {
	for w := lo / 64; w <= (hi-1)/64; w++ {
		m.words[w] |= mask(w, lo, hi)
	}
}

func (m *pageMap) clear(lo, hi uint64) {
	for w := lo / 64; w <= (hi-1)/64; w++ {
		m.words[w] &^= mask(w, lo, hi)
	}
}

// run is the first stretch of pages of one temperature in lo … hi; it is empty
// when there is none.
func (m *pageMap) run(lo, hi uint64, warm bool) (from, to uint64) {
	from = m.first(lo, hi, warm)
	return from, m.first(from, hi, !warm)
}

// first is the first page from lo on with the given temperature, or hi.
func (m *pageMap) first(lo, hi uint64, warm bool) uint64 {
	if lo >= hi {
		return hi
	}
	for w := lo / 64; w <= (hi-1)/64; w++ {
		v := m.words[w]
		if !warm {
			v = ^v
		}
		if v &= mask(w, lo, hi); v != 0 {
			return w*64 + uint64(bits.TrailingZeros64(v))
		}
	}
	return hi
}
