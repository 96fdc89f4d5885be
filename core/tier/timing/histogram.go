package timing

import (
	"math"
	"math/bits"
	"sync/atomic"
)

const (
	precision = 10             // bits: 1024 buckets an octave
	octave    = 1 << precision // buckets
	octaves   = 64 - precision // with the linear one at the bottom; values are below 2^63
)

// A value is precision+1 significant bits, cut off: bucket (o, i) holds the values v with v >> (o−1) = octave + i, and
// octave 0 the values below 1024 themselves. A bucket is 2^(o−1) wide and begins at 2^(o−1)·(1024 + i), so its middle
// is off by at most half a width, 1/2048 of the value.
func bucket(v int64) (o, i int) {
	if v < octave {
		return 0, int(max(v, 0))
	}
	shift := bits.Len64(uint64(v)) - precision - 1
	return shift + 1, int(uint64(v)>>shift) - octave
}

// bounds are the first and the last value of a bucket.
func bounds(o, i int) (first, last int64) {
	if o == 0 {
		return int64(i), int64(i)
	}
	first = int64(octave+i) << (o - 1)
	return first, first + 1<<(o-1) - 1
}

// histogram counts values that are not 0; how many were 0 is known from how many there were. Octaves are made when a
// value falls into them.
type histogram struct {
	sum    atomic.Int64
	max    atomic.Int64
	min    atomic.Int64 // its complement, so that 0 is "none yet"
	counts [octaves]atomic.Pointer[[octave]atomic.Uint64]
}

func (h *histogram) add(v int64) {
	if v <= 0 {
		return
	}
	o, i := bucket(v)
	block := h.counts[o].Load()
	if block == nil {
		block = new([octave]atomic.Uint64)
		if !h.counts[o].CompareAndSwap(nil, block) {
			block = h.counts[o].Load()
		}
	}
	block[i].Add(1)
	h.sum.Add(v)
	raise(&h.max, v)
	raise(&h.min, math.MaxInt64-v)
}

func raise(to *atomic.Int64, v int64) {
	for {
		old := to.Load()
		if v <= old || to.CompareAndSwap(old, v) {
			return
		}
	}
}

// distribution is what was added so far, with as many zeros as are missing to n. Values that come meanwhile may be in it
// or not.
func (h *histogram) distribution(n uint64) Distribution {
	d := Distribution{Sum: h.sum.Load(), Max: h.max.Load(), Min: math.MaxInt64 - h.min.Load()}
	var seen uint64
	for o := range h.counts {
		block := h.counts[o].Load()
		if block == nil {
			continue
		}
		for i := range block {
			if c := block[i].Load(); c != 0 {
				first, last := bounds(o, i)
				d.Buckets = append(d.Buckets, Bucket{first, last, c})
				seen += c
			}
		}
	}
	if n > seen {
		d.Buckets = append([]Bucket{{0, 0, n - seen}}, d.Buckets...)
		d.Min = 0
	}
	d.Count = max(n, seen)
	if d.Count == 0 {
		d.Min = 0
	}
	return d
}
