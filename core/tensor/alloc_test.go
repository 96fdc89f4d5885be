package tensor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNothingAllocates(t *testing.T) {
	source, dest := newGuarded(t, 1<<16), newGuarded(t, 1<<16)
	for name, s := range map[string]Source{
		"contiguous":   {Shape: []int64{10, 10}},
		"runs":         {Shape: []int64{10, 10}, Strides: []int64{20, 1}},
		"elements":     {Shape: []int64{10, 10}, Strides: []int64{40, 3}},
		"expanded":     {Shape: []int64{10, 10}, Strides: []int64{1, 0}},
		"transposed":   {Shape: []int64{70, 70}, Strides: []int64{1, 70}},
		"eight axes":   {Shape: []int64{2, 2, 2, 2, 2, 2, 2, 2}, Strides: []int64{1, 3, 6, 12, 24, 48, 96, 192}},
		"empty":        {Shape: []int64{2, 0}, Strides: []int64{4, 4}},
		"no dimension": {},
	} {
		t.Run(name, func(t *testing.T) {
			s.Base, s.DType = addressOf(source.bytes), dtype(t, "float32")
			strides := make([]int64, 0, MaxDims)
			assert.Zero(t, testing.AllocsPerRun(100, func() {
				p, err := NewPlan(s)
				if err != nil {
					panic(err)
				}
				p.GatherAll(addressOf(dest.bytes), CopyGo)
				_, _, _ = s.Bounds()
				DenseStrides(s.Shape, strides)
			}))
		})
	}
}

func TestGatherOfManyAxesAllocatesOnlyThePlan(t *testing.T) {
	source, dest := newGuarded(t, 1<<16), newGuarded(t, 1<<16)
	shape, strides := make([]int64, 10), make([]int64, 10)
	for i := range shape {
		shape[i], strides[i] = 2, 3<<i
	}
	p, err := NewPlan(Source{Base: addressOf(source.bytes), DType: dtype(t, "float32"), Shape: shape, Strides: strides})
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(100, func() { p.GatherAll(addressOf(dest.bytes), nil) }))
}
