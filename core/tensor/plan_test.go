package tensor

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reference copies one element after the other, every index worked out anew.
func reference(s Source, memory []byte, origin int64) []byte {
	size := int64(s.DType.Size())
	var out []byte
	index := make([]int64, len(s.Shape))
	for {
		at := origin
		for i, n := range index {
			at += n * s.Strides[i] * size
		}
		out = append(out, memory[at:at+size]...)
		i := len(index) - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < s.Shape[i] {
				break
			}
			index[i] = 0
		}
		if i < 0 {
			return out
		}
	}
}

// rig is memory with guards for one source and one destination.
type rig struct {
	random       *rand.Rand
	source, dest *guarded
}

func newRig(tb testing.TB, size int, seed uint64) *rig {
	r := &rig{rand.New(rand.NewPCG(seed, 1)), newGuarded(tb, size), newGuarded(tb, size)}
	for i := range r.source.bytes {
		r.source.bytes[i] = byte(r.random.Uint32())
	}
	return r
}

func newSeed(tb testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("seed %d", seed)
		}
	})
	return seed
}

// check gathers a source without a base from guarded memory into guarded
// memory, the work cut at random, and compares. It reports whether it could:
// what is too big for the rig is left out.
func (r *rig) check(t *testing.T, s Source) bool {
	s.Base = 1 << 40
	lo, hi, err := s.Bounds()
	require.NoError(t, err)
	size, err := Bytes(s.DType, s.Shape)
	require.NoError(t, err)
	if size == 0 || hi-lo > int64(len(r.source.bytes)) || size > uint64(len(r.dest.bytes)) {
		return false
	}
	memory, out := r.source.head(int(hi-lo)), r.dest.head(int(size))
	if r.random.IntN(2) == 0 {
		memory, out = r.source.tail(int(hi-lo)), r.dest.tail(int(size))
	}
	s.Base = addressOf(memory) + uintptr(-lo)
	p, err := NewPlan(s)
	require.NoError(t, err)
	require.Equal(t, size, p.Bytes())
	require.Equal(t, s.Base, p.Base())
	require.Equal(t, Dense(s.Shape, s.Strides), p.Contiguous())

	want := memory
	if s.DType.Size() != 0 {
		want = reference(s, memory, -lo)
	}
	for i := range out {
		out[i] = ^want[i] // no byte is right by chance
	}
	for _, share := range r.shares(size) {
		p.Gather(addressOf(out), share[0], share[1], nil)
	}
	require.Equal(t, want, out, "%s %v %v", s.DType, s.Shape, s.Strides)
	return true
}

// shares cuts [0, size) at random places and shuffles the pieces; the last one
// may be named longer than there is.
func (r *rig) shares(size uint64) [][2]uint64 {
	var out [][2]uint64
	for at := uint64(0); at < size; {
		end := size + uint64(r.random.IntN(3))
		if r.random.IntN(4) > 0 {
			end = at + r.random.Uint64N(size/2+2)
		}
		out = append(out, [2]uint64{at, end})
		at = end
	}
	r.random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

var units = []string{"bool", "bfloat16", "float32", "complex64", "complex128", "float4_e2m1fn_x2"}

// arrange gives a shape one of the layouts that programs make of a tensor.
func (r *rig) arrange(shape []int64) []int64 {
	strides := DenseStrides(shape, nil)
	order := r.random.Perm(len(shape))
	stride := int64(1)
	for _, i := range order { // any permutation of a dense tensor
		strides[i] = stride
		stride *= max(shape[i], 1)
		if r.random.IntN(4) == 0 {
			stride += int64(r.random.IntN(3)) // a slice of a wider one
		}
	}
	for i := range strides {
		switch r.random.IntN(8) {
		case 0:
			strides[i] = 0
		case 1:
			strides[i] = -strides[i]
		case 2:
			strides[i] *= 2
		case 3:
			strides[i] = int64(r.random.IntN(9)) - 4 // overlapping
		}
	}
	return strides
}

func TestGatherAgainstReference(t *testing.T) {
	r := newRig(t, 1<<18, newSeed(t))
	done := 0
	for range 3000 {
		shape := make([]int64, r.random.IntN(7))
		for i := range shape {
			shape[i] = int64(r.random.IntN(6))
			if r.random.IntN(3) > 0 {
				shape[i]++
			}
		}
		s := Source{DType: dtype(t, units[r.random.IntN(len(units))]), Shape: shape, Strides: r.arrange(shape)}
		if r.check(t, s) {
			done++
		}
	}
	assert.Greater(t, done, 1500, "too few cases fit")
}

// Shapes that are larger than a tile, and just not.
func TestGatherTilesAgainstReference(t *testing.T) {
	r := newRig(t, 1<<20, newSeed(t))
	extents := []int64{2, 3, 4, 7, 8, 16, 17, 31, 63, 64, 65, 129, 257, 300}
	tiled := 0
	for range 1500 {
		shape := make([]int64, 2+r.random.IntN(2))
		for i := range shape {
			shape[i] = extents[r.random.IntN(len(extents))]
		}
		s := Source{DType: dtype(t, units[r.random.IntN(len(units))]), Shape: shape, Strides: r.arrange(shape)}
		if r.check(t, s) {
			s.Base = 1 << 40
			p, err := NewPlan(s)
			require.NoError(t, err)
			if p.cross != 0 {
				tiled++
			}
		}
	}
	assert.Greater(t, tiled, 200, "too few cases were tiled")
}

func TestGatherManyDimensions(t *testing.T) {
	r := newRig(t, 1<<18, newSeed(t))
	for range 300 {
		shape := ones(64)
		for range r.random.IntN(15) {
			shape[r.random.IntN(len(shape))] = 2
		}
		r.check(t, Source{DType: dtype(t, units[r.random.IntN(len(units))]), Shape: shape, Strides: r.arrange(shape)})
	}
}

func TestGatherPackedFloat4(t *testing.T) {
	r := newRig(t, 1<<12, newSeed(t))
	assert.True(t, r.check(t, Source{DType: dtype(t, "float4_e2m1fn"), Shape: []int64{3, 6}, Strides: []int64{6, 1}}))
}

func TestPlanJoinsAxes(t *testing.T) {
	for _, c := range []struct {
		name           string
		shape, strides []int64
		unit           uint64
		axes           []axis
		cross          int
	}{
		{"dense", []int64{2, 3, 4}, []int64{12, 4, 1}, 96, []axis{}, 0},
		{"0-d", nil, nil, 4, []axis{}, 0},
		{"all ones", []int64{1, 1}, []int64{5, 6}, 4, []axis{}, 0},
		{"rows of a wider one", []int64{2, 3, 4}, []int64{30, 10, 1}, 16, []axis{{6, 40}}, 0},
		{"run above a slice", []int64{5, 3, 4}, []int64{24, 4, 1}, 48, []axis{{5, 96}}, 0},
		{"every second", []int64{6}, []int64{2}, 4, []axis{{6, 8}}, 0},
		{"pairs become one element", []int64{5, 2}, []int64{4, 1}, 8, []axis{{5, 16}}, 0},
		{"reversed", []int64{2, 3}, []int64{-3, -1}, 4, []axis{{6, -4}}, 0},
		{"expanded", []int64{5, 6}, []int64{0, 0}, 4, []axis{{30, 0}}, 0},
		{"expanded rows", []int64{5, 6}, []int64{0, 1}, 24, []axis{{5, 0}}, 0},
		{"expanded columns", []int64{5, 6}, []int64{1, 0}, 4, []axis{{6, 0}, {5, 4}}, 0},
		{"transposed", []int64{5, 6}, []int64{1, 5}, 4, []axis{{6, 20}, {5, 4}}, 1},
		{"transposed, ones between", []int64{5, 1, 6, 1}, []int64{1, 9, 5, 9}, 4, []axis{{6, 20}, {5, 4}}, 1},
		{"channels last", []int64{2, 3, 4, 4}, []int64{48, 1, 12, 3}, 4, []axis{{16, 12}, {3, 4}, {2, 192}}, 1},
		{"nearest axis is outermost", []int64{5, 2, 6}, []int64{-1, 40, 5}, 4, []axis{{6, 20}, {2, 160}, {5, -4}}, 2},
	} {
		p, err := NewPlan(Source{Base: 1 << 40, DType: dtype(t, "float32"), Shape: c.shape, Strides: c.strides})
		require.NoError(t, err, c.name)
		assert.Equal(t, c.unit, p.unit, c.name)
		assert.Equal(t, c.axes, append([]axis{}, p.axes()...), c.name)
		assert.Equal(t, c.cross, p.cross, c.name)
	}
}

// A plan of more axes than it has room for is still a value.
func TestPlanCopies(t *testing.T) {
	shape := make([]int64, 12)
	for i := range shape {
		shape[i] = 2
	}
	strides := make([]int64, 12)
	for i := range strides {
		strides[i] = 3 << i
	}
	p, err := NewPlan(Source{Base: 1 << 40, DType: dtype(t, "uint8"), Shape: shape, Strides: strides})
	require.NoError(t, err)
	q := p
	assert.Len(t, q.axes(), 12)
	assert.Equal(t, p.axes(), q.axes())
}

func TestSharesPartitionTheTiles(t *testing.T) {
	p, err := NewPlan(Source{Base: 1 << 40, DType: dtype(t, "float32"), Shape: []int64{1000, 777}, Strides: []int64{1, 1000}})
	require.NoError(t, err)
	last := uint64(0)
	for lo := uint64(0); lo <= p.Bytes(); lo += 7777 {
		first := mulDiv(lo, p.tileCount(), p.Bytes())
		assert.GreaterOrEqual(t, first, last)
		last = first
	}
	assert.Equal(t, p.tileCount(), mulDiv(p.Bytes(), p.tileCount(), p.Bytes()))
}

func TestLongRunsGoThroughTheCopier(t *testing.T) {
	source, dest := newGuarded(t, 4*CopierMin), newGuarded(t, 4*CopierMin)
	var got []uintptr
	copier := func(dst, src, n uintptr) {
		got = append(got, n)
		CopyGo(dst, src, n)
	}
	gather := func(rows, run, pitch int64) []uintptr {
		got = nil
		p, err := NewPlan(Source{Base: addressOf(source.bytes), DType: dtype(t, "uint8"), Shape: []int64{rows, run}, Strides: []int64{pitch, 1}})
		require.NoError(t, err)
		p.GatherAll(addressOf(dest.bytes), copier)
		return got
	}
	assert.Equal(t, []uintptr{2 * CopierMin}, gather(2, CopierMin, CopierMin), "contiguous")
	assert.Equal(t, []uintptr{CopierMin, CopierMin}, gather(2, CopierMin, CopierMin+1), "long runs")
	assert.Empty(t, gather(2, CopierMin-1, CopierMin), "short runs")
}

// Shares of one plan may run at the same time.
func TestGatherInThreads(t *testing.T) {
	r := newRig(t, 1<<20, newSeed(t))
	s := Source{Base: addressOf(r.source.bytes), DType: dtype(t, "float32"), Shape: []int64{500, 500}, Strides: []int64{1, 500}}
	p, err := NewPlan(s)
	require.NoError(t, err)
	out := r.dest.head(int(p.Bytes()))
	finished := make(chan struct{})
	const threads = 4
	for i := range uint64(threads) {
		go func() {
			p.Gather(addressOf(out), p.Bytes()*i/threads, p.Bytes()*(i+1)/threads, nil)
			finished <- struct{}{}
		}()
	}
	for range threads {
		<-finished
	}
	require.Equal(t, reference(s, r.source.bytes, 0), out)
}

func FuzzPlan(f *testing.F) {
	f.Add(uint8(2), uint8(32), uint16(1), []byte{6, 7, 8}, []byte{5, 7, 9}, uint64(1))
	f.Add(uint8(5), uint8(128), uint16(1), []byte{20, 90}, []byte{5, 24}, uint64(2))
	f.Add(uint8(17), uint8(4), uint16(2), []byte{10, 12}, []byte{3, 2}, uint64(3))
	f.Add(uint8(0), uint8(8), uint16(1), []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 16}, []byte{4}, uint64(4))
	r := newRig(f, 1<<16, 1)
	f.Fuzz(func(t *testing.T, code, bits uint8, lanes uint16, shape, strides []byte, base uint64) {
		s := Source{Base: uintptr(base), DType: DType{code, bits, lanes}, Shape: words(shape), Strides: words(strides)}
		p, err := NewPlan(s)
		lo, hi, boundsErr := s.Bounds()
		require.Equal(t, err, boundsErr)
		if err == nil {
			require.LessOrEqual(t, p.Bytes(), uint64(MaxBytes))
			require.LessOrEqual(t, lo, int64(0))
			require.LessOrEqual(t, hi-lo, int64(MaxBytes))
			require.LessOrEqual(t, p.tileCount(), max(p.Bytes(), 1))
		}
		s.Base = 1 << 60
		if _, err := NewPlan(s); err == nil && s.Strides != nil {
			r.check(t, s)
		}
	})
}
