package tensor

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		dtype          string
		shape, strides []int64
		lo, hi         int64
	}{
		{"float32", nil, nil, 0, 4},
		{"float32", []int64{3, 4}, nil, 0, 48},
		{"float32", []int64{3, 4}, []int64{1, 3}, 0, 48},
		{"float32", []int64{3, 4}, []int64{10, 2}, 0, (20 + 6 + 1) * 4},
		{"float32", []int64{3, 4}, []int64{-4, -1}, -11 * 4, 4},
		{"float32", []int64{3, 4}, []int64{4, -1}, -3 * 4, (8 + 1) * 4},
		{"float32", []int64{3, 4}, []int64{0, 0}, 0, 4},
		{"float32", []int64{1, 1}, []int64{math.MinInt64, math.MaxInt64}, 0, 4},
		{"float32", []int64{3, 0}, []int64{math.MinInt64, math.MaxInt64}, 0, 0},
		{"float4_e2m1fn", []int64{3, 4}, []int64{4, 1}, 0, 6},
		{"float4_e2m1fn_x2", []int64{3, 4}, []int64{1, 3}, 0, 12},
	} {
		s := Source{Base: 1 << 40, DType: dtype(t, c.dtype), Shape: c.shape, Strides: c.strides}
		lo, hi, err := s.Bounds()
		assert.NoError(t, err, "%v %v", c.shape, c.strides)
		assert.Equal(t, [2]int64{c.lo, c.hi}, [2]int64{lo, hi}, "%v %v", c.shape, c.strides)
	}
}

func TestSourceRefuses(t *testing.T) {
	for _, c := range []struct {
		base           uintptr
		dtype          string
		shape, strides []int64
		err            error
		text           string
	}{
		{4096, "uint8", []int64{-2}, nil, ErrShape, "dimension 0 is -2"},
		{4096, "uint8", []int64{2, 2}, []int64{1}, ErrStrides, "1 for 2 dimensions"},
		{4096, "uint8", []int64{2, 0}, []int64{1}, ErrStrides, "1 for 2 dimensions"},
		{4096, "uint8", nil, []int64{1}, ErrStrides, "1 for 0 dimensions"},
		{4096, "float4_e2m1fn", []int64{4, 4}, []int64{1, 4}, ErrStrides, "has to be dense"},
		{4096, "uint8", []int64{2}, []int64{math.MinInt64}, ErrTooLarge, "stride -9223372036854775808 of dimension 0"},
		{4096, "uint8", []int64{2}, []int64{math.MaxInt64}, ErrTooLarge, "dimension 0"},
		{4096, "uint8", []int64{3}, []int64{math.MaxInt64}, ErrTooLarge, "dimension 0"},
		{4096, "uint8", []int64{2, 2}, []int64{MaxBytes, MaxBytes}, ErrTooLarge, "strides up to dimension"},
		{4096, "uint8", []int64{2, 2}, []int64{MaxBytes / 2, -MaxBytes}, ErrTooLarge, "strides up to dimension 1"},
		{4096, "float32", []int64{1 << 60}, []int64{0}, ErrTooLarge, "dimension 0"},
		{0, "uint8", []int64{1}, nil, ErrAddress, "null for 1 bytes"},
		{8, "uint8", []int64{10}, []int64{-1}, ErrAddress, "wrap"},
		{math.MaxUint64 - 8, "uint8", []int64{10}, nil, ErrAddress, "wrap"},
	} {
		s := Source{Base: c.base, DType: dtype(t, c.dtype), Shape: c.shape, Strides: c.strides}
		_, _, err := s.Bounds()
		assert.ErrorIs(t, err, c.err, "%v %v", c.shape, c.strides)
		assert.ErrorContains(t, err, c.text)
		p, err := NewPlan(s)
		assert.ErrorIs(t, err, c.err)
		assert.Zero(t, p)
	}
	_, err := NewPlan(Source{Base: 4096, Shape: []int64{1}})
	assert.ErrorIs(t, err, ErrDType)
}

func TestNullIsFineWithoutBytes(t *testing.T) {
	p, err := NewPlan(Source{DType: dtype(t, "int64"), Shape: []int64{4, 0}})
	assert.NoError(t, err)
	assert.Zero(t, p.Bytes())
	assert.True(t, p.Contiguous())
	p.GatherAll(0, nil)
}
