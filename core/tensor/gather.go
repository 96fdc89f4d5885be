package tensor

import "math/bits"

// Copier copies n bytes between memory that does not overlap. It is called for
// runs of at least [CopierMin] bytes and must have finished when it returns.
type Copier func(dst, src, n uintptr)

// CopierMin is the run length from which a Copier is used. Shorter runs are
// copied in place, since a call out of Go costs more than it could save.
const CopierMin = 64 << 10

// Gather copies a share of the source to its place in the dense destination at
// address dst, of [Plan.Bytes] bytes, which must not overlap the source. A nil
// copier means [CopyGo].
//
// The share is named by a range [lo, hi) of destination bytes; what lies past
// the end is ignored. Ranges that divide the destination between them do all
// the work exactly once, however they are cut and in whatever order or threads
// they run. A single range is a share of the *work*: where the source is
// gathered in tiles or elements, the bytes written are about as many, but may
// lie elsewhere. Nothing is complete before all ranges are.
//
// It does not allocate and cannot fail. Memory that is not mapped is a fault.
func (p *Plan) Gather(dst uintptr, lo, hi uint64, copier Copier) {
	hi = min(hi, p.size)
	if lo >= hi {
		return
	}
	if copier == nil {
		copier = CopyGo
	}
	switch {
	case p.Contiguous():
		move(dst+uintptr(lo), p.base+uintptr(lo), uintptr(hi-lo), copier)
	case !isElement(p.unit):
		p.gatherRuns(dst, lo, hi, copier)
	case p.cross == 0:
		p.gatherRows(dst, ceilDiv(lo, p.unit), ceilDiv(hi, p.unit))
	default:
		count := p.tileCount()
		p.gatherTiles(dst, mulDiv(lo, count, p.size), mulDiv(hi, count, p.size))
	}
}

// GatherAll copies everything.
func (p *Plan) GatherAll(dst uintptr, copier Copier) { p.Gather(dst, 0, p.size, copier) }

func move(dst, src, n uintptr, copier Copier) {
	if n < CopierMin {
		CopyGo(dst, src, n)
	} else {
		copier(dst, src, n)
	}
}

// gatherRuns copies bytes [lo, hi) of the destination run by run.
func (p *Plan) gatherRuns(dst uintptr, lo, hi uint64, copier Copier) {
	var w walk
	axes := p.axes()
	w.seek(axes, lo/p.unit)
	within := lo % p.unit
	for lo < hi {
		n := min(p.unit-within, hi-lo)
		move(dst+uintptr(lo), p.base+uintptr(w.offset)+uintptr(within), uintptr(n), copier)
		lo += n
		within = 0
		w.next(axes)
	}
}

// gatherRows copies elements [first, end) of the destination along its rows.
func (p *Plan) gatherRows(dst uintptr, first, end uint64) {
	if first >= end {
		return
	}
	switch p.unit {
	case 1:
		copyRows[uint8](p, dst, first, end)
	case 2:
		copyRows[uint16](p, dst, first, end)
	case 4:
		copyRows[uint32](p, dst, first, end)
	case 8:
		copyRows[uint64](p, dst, first, end)
	default:
		copyRows[pair](p, dst, first, end)
	}
}

// gatherTiles copies tiles [first, end).
func (p *Plan) gatherTiles(dst uintptr, first, end uint64) {
	if first >= end {
		return
	}
	switch p.unit {
	case 1:
		copyTiles[uint8](p, dst, first, end)
	case 2:
		copyTiles[uint16](p, dst, first, end)
	case 4:
		copyTiles[uint32](p, dst, first, end)
	case 8:
		copyTiles[uint64](p, dst, first, end)
	default:
		copyTiles[pair](p, dst, first, end)
	}
}

func ceilDiv(a, b uint64) uint64 { return (a + b - 1) / b }

// mulDiv is floor(a*b/c) for a <= c.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if a == c {
		return b
	}
	quotient, _ := bits.Div64(hi, lo, c)
	return quotient
}

// walk steps through axes in row-major order and knows the source offset of
// where it stands. It is handed the same axes at each call and does not keep
// them: a pointer kept would move the plan to the heap.
type walk struct {
	offset int64
	index  [MaxDims]int64
}

// seek starts at position n, counted in steps of the innermost axis.
func (w *walk) seek(axes []axis, n uint64) {
	for i, a := range axes {
		w.index[i] = int64(n % uint64(a.extent))
		w.offset += w.index[i] * a.stride
		n /= uint64(a.extent)
	}
}

// next goes one step further and from the last position back to the first.
func (w *walk) next(axes []axis) {
	for i, a := range axes {
		w.index[i]++
		w.offset += a.stride
		if w.index[i] < a.extent {
			return
		}
		w.index[i] = 0
		w.offset -= a.stride * a.extent
	}
}
