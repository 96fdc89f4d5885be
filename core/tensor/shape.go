package tensor

import (
	"fmt"
	"math/bits"
)

// MaxDims is the largest number of dimensions: what torch and numpy can hold.
const MaxDims = 64

// MaxBytes is the largest size of a tensor and the largest distance between its
// first and last byte: the most that a processor of today can map. It leaves
// room enough that sums and products of checked extents never wrap.
const MaxBytes = 1 << 56

// Bytes is the size of a dense tensor. No dimensions mean one element, and one
// empty dimension means no bytes; the other extents are then held to the same
// limit, so that the strides of every accepted shape can be written down.
func Bytes(dt DType, shape []int64) (uint64, error) {
	if err := dt.Valid(); err != nil {
		return 0, err
	}
	if len(shape) > MaxDims {
		return 0, fmt.Errorf("%w: %d dimensions, at most %d", ErrShape, len(shape), MaxDims)
	}
	limit := MaxBytes / dt.bits() * 8
	count, empty := uint64(1), false
	for i, extent := range shape {
		if extent < 0 {
			return 0, fmt.Errorf("%w: dimension %d is %d", ErrShape, i, extent)
		}
		if extent == 0 {
			empty = true
			continue
		}
		over, product := bits.Mul64(count, uint64(extent))
		if over != 0 || product > limit {
			return 0, fmt.Errorf("%w: at dimension %d (%d) more than %d bytes of %s", ErrTooLarge, i, extent, uint64(MaxBytes), dt)
		}
		count = product
	}
	if empty {
		return 0, nil
	}
	total := count * dt.bits()
	if total%8 != 0 {
		return 0, fmt.Errorf("%w: %d elements of %s, two to a byte, end inside a byte", ErrShape, count, dt)
	}
	return total / 8, nil
}

// DenseStrides gives the row-major strides of a shape that [Bytes] accepts, in
// elements. It fills out when its capacity suffices, and is
// never nil. Empty dimensions count as
// one and dimensions of extent one get a stride as any other, as in torch.
func DenseStrides(shape []int64, out []int64) []int64 {
	if out == nil || cap(out) < len(shape) {
		out = make([]int64, len(shape))
	}
	out = out[:len(shape)]
	stride := int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = stride
		stride *= max(shape[i], 1)
	}
	return out
}

// Dense reports whether a tensor of a shape that [Bytes] accepts is laid out
// row-major without gaps. Nil strides mean so; the stride of a dimension of
// extent one does not matter, and without elements none does.
func Dense(shape, strides []int64) bool {
	if strides == nil {
		return true
	}
	if len(strides) != len(shape) {
		return false
	}
	dense, want := true, int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		switch extent := shape[i]; {
		case extent == 0:
			return true
		case extent != 1:
			dense = dense && strides[i] == want
			want *= extent
		}
	}
	return dense
}
