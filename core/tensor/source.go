package tensor

import (
	"fmt"
	"math"
	"math/bits"
)

// Source is a tensor somewhere in memory, as its producer describes it.
//
// Base is the address of the element whose indices are all zero. Strides count
// elements, may be zero (expanded) or negative, and nil means dense. Nothing in
// it has been checked.
type Source struct {
	Base    uintptr
	DType   DType
	Shape   []int64
	Strides []int64
}

// Bounds is the range of bytes [lo, hi) relative to Base that reading the whole
// tensor touches. Both are zero for a tensor without elements.
func (s Source) Bounds() (lo, hi int64, err error) {
	_, lo, hi, err = s.measure()
	return lo, hi, err
}

// measure checks everything that can be checked without looking at the memory.
func (s Source) measure() (size uint64, lo, hi int64, err error) {
	size, err = Bytes(s.DType, s.Shape)
	if err != nil {
		return 0, 0, 0, err
	}
	if s.Strides != nil && len(s.Strides) != len(s.Shape) {
		return 0, 0, 0, fmt.Errorf("%w: %d for %d dimensions", ErrStrides, len(s.Strides), len(s.Shape))
	}
	if size == 0 {
		return 0, 0, 0, nil
	}
	if hi = int64(size); !Dense(s.Shape, s.Strides) {
		lo, hi, err = s.span()
	}
	if err == nil {
		err = s.addressable(lo, hi)
	}
	if err != nil {
		return 0, 0, 0, err
	}
	return size, lo, hi, nil
}

// span sums, for each direction, how far the strides lead away from Base.
func (s Source) span() (lo, hi int64, err error) {
	item := s.DType.Size()
	if item == 0 {
		return 0, 0, fmt.Errorf("%w: %s is packed two to a byte and has to be dense", ErrStrides, s.DType)
	}
	hi = int64(item)
	for i, extent := range s.Shape {
		stride := s.Strides[i]
		if extent == 1 || stride == 0 {
			continue
		}
		// MinInt64 has no negative in int64, but has one in uint64.
		distance := uint64(stride)
		if stride < 0 {
			distance = -distance
		}
		over, reach := bits.Mul64(distance, uint64(extent-1)*item)
		if over != 0 || reach > MaxBytes {
			return 0, 0, fmt.Errorf("%w: stride %d of dimension %d (%d) reaches more than %d bytes", ErrTooLarge, stride, i, extent, uint64(MaxBytes))
		}
		if stride < 0 {
			lo -= int64(reach)
		} else {
			hi += int64(reach)
		}
		if hi-lo > MaxBytes {
			return 0, 0, fmt.Errorf("%w: strides up to dimension %d reach more than %d bytes", ErrTooLarge, i, uint64(MaxBytes))
		}
	}
	return lo, hi, nil
}

func (s Source) addressable(lo, hi int64) error {
	if s.Base == 0 {
		return fmt.Errorf("%w: null for %d bytes", ErrAddress, hi-lo)
	}
	below, above := uint64(-lo), uint64(hi)
	if below > uint64(s.Base) || above > math.MaxUint64-uint64(s.Base) {
		return fmt.Errorf("%w: bytes %d to %d around %#x wrap", ErrAddress, lo, hi, s.Base)
	}
	return nil
}
