package tensor

// A tile is tileLine bytes along the cross axis by tileColumns elements along
// the innermost one. It is built up in a buffer that fits the first cache:
// every line of the source is read once, whole, with its neighbours, and every
// row of the tile written at one go. A power-of-two stride, which maps all
// lines of a row to few places in the cache, then does no harm, and a page is
// looked up once for several lines.
const (
	tileLine    = 256
	tileColumns = 64
	tileBytes   = tileLine * tileColumns
)

// tileRows is the height of a tile along the cross axis.
func (p *Plan) tileRows() int64 { return tileLine / int64(p.unit) }

// tileStep is the size of a tile along axis i.
func (p *Plan) tileStep(i int) int64 {
	switch i {
	case 0:
		return tileColumns
	case p.cross:
		return p.tileRows()
	}
	return 1
}

// tileCount is the number of tiles. There are never more of them than bytes.
func (p *Plan) tileCount() uint64 {
	n := uint64(1)
	for i, a := range p.axes() {
		n *= ceilDiv(uint64(a.extent), uint64(p.tileStep(i)))
	}
	return n
}

// tileWalk steps from tile to tile in row-major order, and knows where the
// first element of the tile lies in source and destination. Like walk, it does
// not keep the axes.
type tileWalk struct {
	source, dest int64
	step         [MaxDims]int64
	pitch        [MaxDims]int64 // destination strides in bytes
	index        [MaxDims]int64 // in elements
}

// seek starts at tile n.
func (w *tileWalk) seek(p *Plan, n uint64) {
	pitch := int64(p.unit)
	for i, a := range p.axes() {
		w.step[i], w.pitch[i] = p.tileStep(i), pitch
		pitch *= a.extent
		tiles := ceilDiv(uint64(a.extent), uint64(w.step[i]))
		w.index[i] = int64(n%tiles) * w.step[i]
		n /= tiles
		w.source += w.index[i] * a.stride
		w.dest += w.index[i] * w.pitch[i]
	}
}

// next goes to the following tile and from the last one back to the first.
func (w *tileWalk) next(axes []axis) {
	for i, a := range axes {
		w.index[i] += w.step[i]
		if w.index[i] < a.extent {
			w.source += w.step[i] * a.stride
			w.dest += w.step[i] * w.pitch[i]
			return
		}
		start := w.index[i] - w.step[i]
		w.source -= start * a.stride
		w.dest -= start * w.pitch[i]
		w.index[i] = 0
	}
}
