package tensor

// Plan is a checked [Source] together with the way to copy it densely and
// row-major: its axes with those of extent one dropped and neighbours joined
// wherever one stride spans both.
//
// The zero Plan has no bytes. A Plan is a value and may be copied; all of its
// methods may be called by several goroutines at once.
type Plan struct {
	base uintptr
	size uint64
	// unit is the length of the bytes that lie together at the end of every
	// row: one element, or as many trailing axes as are dense.
	unit uint64
	// few holds the axes above the unit, innermost first; more takes them all
	// when they are too many for few.
	few   [8]axis
	more  []axis
	count int
	// cross is the index of the axis that is tiled together with the innermost
	// one, and 0 when the source is read along its rows.
	cross int
}

// axis is extent steps of stride bytes each, in the source.
type axis struct {
	extent int64
	stride int64
}

// NewPlan checks src and decides how it is gathered. It does not look at the
// memory. Up to eight dimensions it does not allocate.
func NewPlan(src Source) (Plan, error) {
	size, _, _, err := src.measure()
	if err != nil || size == 0 {
		return Plan{}, err
	}
	p := Plan{base: src.Base, size: size, unit: size}
	if !Dense(src.Shape, src.Strides) {
		p.unit = src.DType.Size()
		p.join(src.Shape, src.Strides)
		p.cross = p.crossAxis()
	}
	return p, nil
}

// join walks outwards from the last dimension. What measure accepted keeps
// every product in here below 2^58.
func (p *Plan) join(shape, strides []int64) {
	item := int64(p.unit)
	for i := len(shape) - 1; i >= 0; i-- {
		next := axis{shape[i], strides[i] * item}
		if next.extent == 1 {
			continue
		}
		if p.count == 0 {
			if next.stride == int64(p.unit) {
				p.unit *= uint64(next.extent)
			} else {
				p.push(next)
			}
			continue
		}
		inner := &p.axes()[p.count-1]
		if next.stride == inner.stride*inner.extent {
			inner.extent *= next.extent
		} else {
			p.push(next)
		}
	}
}

func (p *Plan) push(a axis) {
	switch {
	case p.more == nil && p.count < len(p.few):
		p.few[p.count] = a
	case p.more == nil:
		p.more = make([]axis, p.count, MaxDims)
		copy(p.more, p.few[:])
		fallthrough
	default:
		p.more = append(p.more, a)
	}
	p.count++
}

func (p *Plan) axes() []axis {
	if p.more != nil {
		return p.more
	}
	return p.few[:p.count]
}

// crossAxis finds the axis along which the source is closest together, if that
// is not the innermost one. Reading rows would then fetch a cache line, or a
// page, for every element, and again for every neighbour of it.
func (p *Plan) crossAxis() int {
	axes := p.axes()
	if len(axes) < 2 || !isElement(p.unit) || axes[0].stride == 0 {
		return 0
	}
	cross := 0
	for i, a := range axes {
		if a.stride != 0 && abs(a.stride) < abs(axes[cross].stride) {
			cross = i
		}
	}
	return cross
}

// isElement tells the units that are moved by one load and store.
func isElement(unit uint64) bool { return unit <= 16 && unit&(unit-1) == 0 }

// abs is never given MinInt64: no checked stride is that far.
func abs(n int64) int64 { return max(n, -n) }

// Bytes is the size of the dense destination.
func (p *Plan) Bytes() uint64 { return p.size }

// Contiguous reports whether the source is dense already, so that one copy of
// [Plan.Bytes] from [Plan.Base] does it.
func (p *Plan) Contiguous() bool { return p.unit == p.size }

// Base is the address of the first element, 0 when there are no bytes. Unless
// the plan is Contiguous, bytes below it may belong to the tensor too.
func (p *Plan) Base() uintptr { return p.base }
