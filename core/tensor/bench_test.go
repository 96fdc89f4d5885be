package tensor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each case is beside "contiguous", the plain copy of as many bytes.
func BenchmarkGather(b *testing.B) {
	const n = 4096
	source, dest := newGuarded(b, 4*n*n), newGuarded(b, 4*n*n)
	for i := range source.bytes {
		source.bytes[i] = byte(i)
	}
	copy(dest.bytes, source.bytes)
	for _, c := range []struct {
		name, dtype    string
		first          int64 // element that Base is
		shape, strides []int64
	}{
		{"contiguous", "float32", 0, []int64{n, n}, nil},
		{"transposed", "float32", 0, []int64{n, n}, []int64{1, n}},
		{"transposed/1", "uint8", 0, []int64{2 * n, 2 * n}, []int64{1, 2 * n}},
		{"transposed/2", "float16", 0, []int64{n, 2 * n}, []int64{1, n}},
		{"transposed/8", "float64", 0, []int64{n, n / 2}, []int64{1, n}},
		{"transposed/16", "complex128", 0, []int64{n, n / 4}, []int64{1, n}},
		{"transposed/odd", "float32", 0, []int64{n - 1, n - 1}, []int64{1, n - 1}},
		{"channels last", "float32", 0, []int64{32, 3, 416, 416}, []int64{3 * 416 * 416, 1, 3 * 416, 3}},
		{"heads", "float16", 0, []int64{32, 4096, 64}, []int64{64, 32 * 64, 1}},
		{"reversed", "float32", n*n - 1, []int64{n * n}, []int64{-1}},
		{"every second", "float32", 0, []int64{n * n / 2}, []int64{2}},
		{"narrow", "float32", 0, []int64{n * n / 8, 3}, []int64{8, 1}},
		{"expanded rows", "float32", 0, []int64{n, n}, []int64{0, 1}},
		{"expanded columns", "float32", 0, []int64{n, n}, []int64{1, 0}},
		{"expanded bool", "bool", 0, []int64{2 * n, 2 * n}, []int64{0, 0}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dt := dtype(b, c.dtype)
			base := addressOf(source.bytes) + uintptr(c.first)*uintptr(dt.Size())
			p, err := NewPlan(Source{Base: base, DType: dt, Shape: c.shape, Strides: c.strides})
			require.NoError(b, err)
			b.SetBytes(int64(p.Bytes()))
			b.ReportAllocs()
			for b.Loop() {
				p.GatherAll(addressOf(dest.bytes), nil)
			}
		})
	}
}

func BenchmarkNewPlan(b *testing.B) {
	for name, s := range map[string]Source{
		"dense":      {Shape: []int64{32, 128, 64}, Strides: []int64{128 * 64, 64, 1}},
		"transposed": {Shape: []int64{32, 128, 64}, Strides: []int64{1, 32, 32 * 128}},
	} {
		s.Base, s.DType = 1<<40, dtype(b, "float32")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewPlan(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
