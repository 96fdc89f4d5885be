package cost

import (
	"math"
	"time"
)

// Line is a cost that grows with the size: Fixed nanoseconds, and PerByte more for each byte.
type Line struct{ Fixed, PerByte float64 }

// At is the cost of n bytes.
func (l Line) At(n uint64) time.Duration { return time.Duration(l.Fixed + l.PerByte*float64(n)) }

// Point is one measurement.
type Point struct {
	Bytes          uint64
	Register, Copy time.Duration // registering and deregistering; copying through a bounce buffer
}

// Figures are what was measured of a device. The zero value knows nothing, and says that registering never pays.
type Figures struct {
	Device         string
	Register, Copy Line
	Points         []Point
	Took           time.Duration
}

// breakEven is the size from which registering once for so many uses costs less than copying each time.
func (f Figures) breakEven(uses int) uint64 {
	k := float64(max(uses, 1))
	gain := f.Copy.PerByte - f.Register.PerByte/k
	if gain <= f.Copy.PerByte/20 { // within what measuring is worth, both cost the same
		return Unlimited
	}
	n := math.Ceil((f.Register.Fixed/k - f.Copy.Fixed) / gain)
	switch {
	case math.IsNaN(n) || n >= 1<<62:
		return Unlimited
	case n < 0:
		return 0
	}
	return uint64(n)
}

// fit lays a line through points, by least squares of the relative errors: else the largest point alone would count.
func fit(points []Point, cost func(Point) time.Duration) Line {
	var w, x, y, xx, xy float64
	for _, p := range points {
		n, c := float64(p.Bytes), max(float64(cost(p)), 1)
		weight := 1 / (c * c)
		w, x, y, xx, xy = w+weight, x+weight*n, y+weight*c, xx+weight*n*n, xy+weight*n*c
	}
	if w == 0 {
		return Line{}
	}
	d := w*xx - x*x
	l := Line{Fixed: y / w}
	if len(points) > 1 && d > 0 {
		l = Line{Fixed: (xx*y - x*xy) / d, PerByte: (w*xy - x*y) / d}
	}
	switch { // no cost is below zero: through the origin, or flat
	case l.PerByte < 0:
		l = Line{Fixed: y / w}
	case l.Fixed < 0:
		l = Line{PerByte: xy / xx}
	}
	return l
}
