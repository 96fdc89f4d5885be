package tensor

import (
	"encoding/binary"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func ones(n int, more ...int64) []int64 {
	shape := make([]int64, n, n+len(more))
	for i := range shape {
		shape[i] = 1
	}
	return append(shape, more...)
}

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		dtype string
		shape []int64
		want  uint64
	}{
		{"float32", nil, 4},
		{"float32", []int64{}, 4},
		{"float32", []int64{0}, 0},
		{"float32", []int64{3, 0, 5}, 0},
		{"float32", []int64{3, 4, 5}, 240},
		{"complex128", []int64{7}, 112},
		{"complex32", []int64{7}, 28},
		{"bool", []int64{9}, 9},
		{"float4_e2m1fn_x2", []int64{3, 5}, 15},
		{"float4_e2m1fn", []int64{3, 6}, 9},
		{"float4_e2m1fn", []int64{3, 0}, 0},
		{"uint8", ones(63, 5), 5},
		{"uint8", []int64{MaxBytes}, MaxBytes},
		{"float64", []int64{1 << 20, 1 << 33}, MaxBytes},
		{"float4_e2m1fn", []int64{2 * MaxBytes}, MaxBytes},
		{"uint8", []int64{0, MaxBytes}, 0},
	} {
		got, err := Bytes(dtype(t, c.dtype), c.shape)
		assert.NoError(t, err, "%s %v", c.dtype, c.shape)
		assert.Equal(t, c.want, got, "%s %v", c.dtype, c.shape)
	}
}

func TestBytesRefuses(t *testing.T) {
	for _, c := range []struct {
		dtype string
		shape []int64
		err   error
		text  string
	}{
		{"uint8", []int64{2, -1, 3}, ErrShape, "dimension 1 is -1"},
		{"uint8", []int64{0, math.MinInt64}, ErrShape, "dimension 1 is -9223372036854775808"},
		{"uint8", ones(65), ErrShape, "65 dimensions"},
		{"float4_e2m1fn", []int64{3, 5}, ErrShape, "15 elements"},
		{"float4_e2m1fn", nil, ErrShape, "1 elements"},
		{"uint8", []int64{MaxBytes + 1}, ErrTooLarge, "dimension 0"},
		{"float32", []int64{math.MaxInt64}, ErrTooLarge, "dimension 0"},
		{"float32", []int64{1 << 32, 1 << 32}, ErrTooLarge, "dimension 1 (4294967296)"},
		{"float32", []int64{1 << 32, 1 << 32, 0}, ErrTooLarge, "dimension 1"},
		{"float32", []int64{0, 1 << 32, 1 << 32}, ErrTooLarge, "dimension 2"},
		{"complex128", []int64{1 << 53}, ErrTooLarge, "complex128"},
	} {
		got, err := Bytes(dtype(t, c.dtype), c.shape)
		assert.ErrorIs(t, err, c.err, "%s %v", c.dtype, c.shape)
		assert.ErrorContains(t, err, c.text)
		assert.Zero(t, got)
	}
	_, err := Bytes(DType{}, []int64{4})
	assert.ErrorIs(t, err, ErrDType)
}

func TestDenseStrides(t *testing.T) {
	for _, c := range []struct{ shape, want []int64 }{
		{[]int64{}, []int64{}},
		{[]int64{5}, []int64{1}},
		{[]int64{2, 3, 4}, []int64{12, 4, 1}},
		{[]int64{2, 1, 4}, []int64{4, 4, 1}},
		{[]int64{2, 0, 4}, []int64{4, 4, 1}}, // as torch.empty(2, 0, 4).stride()
		{[]int64{0}, []int64{1}},
		{[]int64{3, 0}, []int64{1, 1}},
	} {
		got := DenseStrides(c.shape, nil)
		assert.Equal(t, c.want, got, "%v", c.shape)
		assert.True(t, Dense(c.shape, got))
	}
	room := make([]int64, 3, 8)
	got := DenseStrides([]int64{2, 3, 4, 5}, room)
	assert.Equal(t, []int64{60, 20, 5, 1}, got)
	assert.Same(t, &room[0], &got[0])
}

func TestDense(t *testing.T) {
	for _, c := range []struct {
		shape, strides []int64
		want           bool
	}{
		{nil, nil, true},
		{nil, []int64{}, true},
		{[]int64{2, 3}, nil, true},
		{[]int64{2, 3}, []int64{3, 1}, true},
		{[]int64{2, 3}, []int64{1, 2}, false},
		{[]int64{2, 3}, []int64{4, 1}, false},
		{[]int64{2, 3}, []int64{3}, false},
		{[]int64{1, 3}, []int64{-99, 1}, true},
		{[]int64{3, 1}, []int64{1, 77}, true},
		{[]int64{3}, []int64{-1}, false},
		{[]int64{3}, []int64{0}, false},
		{[]int64{3, 0}, []int64{-5, 9}, true},
		{[]int64{0, 3}, []int64{-5, 9}, true},
	} {
		assert.Equal(t, c.want, Dense(c.shape, c.strides), "%v %v", c.shape, c.strides)
	}
}

// words reads little-endian numbers, and gives the fuzzer small ones to hand:
// a leading byte below 0x80 is the number.
func words(data []byte) []int64 {
	var out []int64
	for len(data) > 0 {
		first := data[0]
		data = data[1:]
		if first < 0x80 {
			out = append(out, int64(first)-4)
			continue
		}
		var wide [8]byte
		data = data[copy(wide[:], data):]
		out = append(out, int64(binary.LittleEndian.Uint64(wide[:])))
	}
	return out
}

func FuzzBytes(f *testing.F) {
	f.Add(uint8(2), uint8(32), uint16(1), []byte{6, 7, 8})
	f.Add(uint8(17), uint8(4), uint16(1), []byte{6, 7})
	f.Add(uint8(17), uint8(4), uint16(2), []byte{4, 9})
	f.Add(uint8(0), uint8(64), uint16(1), []byte{0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code, bits uint8, lanes uint16, data []byte) {
		dt, shape := DType{code, bits, lanes}, words(data)
		got, err := Bytes(dt, shape)
		if err != nil {
			require.Zero(t, got)
			return
		}
		require.NoError(t, dt.Valid())
		want := big.NewInt(int64(dt.bits()))
		for _, extent := range shape {
			require.GreaterOrEqual(t, extent, int64(0))
			want.Mul(want, big.NewInt(extent))
		}
		require.Equal(t, want.String(), new(big.Int).SetUint64(got*8).String())
		require.LessOrEqual(t, got, uint64(MaxBytes))
		require.True(t, Dense(shape, DenseStrides(shape, nil)))
		parsed, err := ParseDType(dt.String())
		require.NoError(t, err)
		require.Equal(t, dt, parsed)
	})
}
