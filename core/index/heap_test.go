package index

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/arena/cell"
)

func TestBlocks(t *testing.T) {
	h := newHeap(t, Options{})
	require.Nil(t, h.At(0))
	require.Equal(t, 1, int(h.dir.tiled)/tiledUnits)
	for _, bytes := range []int{0, 1, 32, 33, 57, maxBody - 1, maxBody} {
		unit, c, err := h.Alloc(3, bytes)
		require.NoError(t, err)
		require.Same(t, h.At(unit), c)
		require.Equal(t, cell.KindRecord, c.Kind)
		require.Equal(t, 2+(bytes+31)/32, int(c.Units))
		if bytes == 0 {
			require.Zero(t, c.Body)
			require.Nil(t, h.Key(unit))
			continue
		}
		require.Equal(t, unit+2, c.Body)
		require.Zero(t, *h.BodyAt(c.Body))
	}
	for _, bytes := range []int{-1, maxBody + 1} {
		_, _, err := h.Alloc(0, bytes)
		require.ErrorIs(t, err, ErrBodySize)
	}
}

// Blocks come zeroed, whatever was in them.
func TestBlocksAreZeroed(t *testing.T) {
	h := newHeap(t, Options{})
	r := seeded(t)
	var units []uint32
	for range 3000 {
		if len(units) > 50 {
			i := r.IntN(len(units))
			h.Free(units[i])
			units[i] = units[len(units)-1]
			units = units[:len(units)-1]
		}
		unit, c, err := h.Alloc(0, r.IntN(2000))
		require.NoError(t, err)
		body := c.Body
		c.Body = 0
		require.Equal(t, make([]byte, headerAt), span(c, 0, headerAt))
		require.Zero(t, c.Flags)
		c.Body = body
		rest := span(c, cell.Size, uintptr(c.Units)*cell.Unit)
		for i := range rest {
			if rest[i] != 0 {
				t.Fatalf("byte %d is %#x", i, rest[i])
			}
			rest[i] = 0xff
		}
		clear(span(c, 0, 44)) // all but Body and header
		c.Seq = ^uint64(0)
		units = append(units, unit)
	}
}

func TestSeparateBody(t *testing.T) {
	h := newHeap(t, Options{})
	unit, c, err := h.Alloc(1, 0)
	require.NoError(t, err)
	n, err := BodyBytes(3, 0, 0)
	require.NoError(t, err)
	body, _, err := h.AllocBody(5, n)
	require.NoError(t, err)
	require.NoError(t, h.WriteBody(body, Content{Key: []byte("key")}))
	c.Body = body
	require.Equal(t, "key", string(h.Key(unit)))

	tab, err := NewTable(h)
	require.NoError(t, err)
	defer tab.Close()
	require.NoError(t, tab.Insert(9, unit))
	require.Equal(t, unit, tab.Lookup(9, []byte("key")))
	require.Zero(t, tab.Lookup(9, []byte("kez")))

	records := 0
	h.Walk(func(u uint32, _ *cell.Cell) bool { records++; return u == unit })
	require.Equal(t, 1, records, "a body alone is not a record")
	h.Free(unit)
	require.Zero(t, h.Stats().Used)

	body, _, err = h.AllocBody(5, n)
	require.NoError(t, err)
	h.FreeBody(body)
	require.Zero(t, h.Stats().Used)
}

func TestBodyRoundTrip(t *testing.T) {
	h := newHeap(t, Options{})
	long := []byte(strings.Repeat("k", MaxKey))
	shape := make([]int64, MaxDims)
	for i := range shape {
		shape[i] = int64(i) << 40
	}
	for _, v := range []Content{
		{Key: []byte("k")},
		{Key: []byte("plain"), Meta: []byte("meta")},
		{Key: []byte("scalar"), Tensor: true, Code: 2, Bits: 32, Lanes: 1, Shape: []int64{}},
		{Key: []byte("tensor"), Tensor: true, Code: 4, Bits: 16, Lanes: 1, Shape: []int64{3, 0, 1 << 40}, Meta: []byte{0}},
		{Key: long, Tensor: true, Code: 17, Bits: 4, Lanes: 2, Shape: shape, Meta: long},
	} {
		_, c, err := record(h, 0, v)
		require.NoError(t, err)
		b := h.BodyAt(c.Body)
		require.Equal(t, v.Key, Key(b))
		require.Equal(t, string(v.Meta), string(Meta(b)))
		require.Equal(t, len(v.Shape), len(Shape(b)))
		require.ElementsMatch(t, v.Shape, Shape(b))
		require.Equal(t, v.Tensor, b.Tensor == 1)
		require.Equal(t, []int{int(v.Code), int(v.Bits), int(v.Lanes)}, []int{int(b.DCode), int(b.DBits), int(b.DLanes)})
		require.Zero(t, b.Pinned)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		unit, _, _ := record(h, 0, Content{Key: long, Tensor: true, Shape: shape})
		h.Free(unit)
	}))
}

func TestBodyLimits(t *testing.T) {
	for _, v := range []struct {
		key, dims, meta int
		err             error
	}{
		{1, 0, 0, nil}, {MaxKey, MaxDims, MaxMeta, nil},
		{0, 0, 0, ErrKeyLength}, {MaxKey + 1, 0, 0, ErrKeyLength},
		{1, -1, 0, ErrDimensions}, {1, MaxDims + 1, 0, ErrDimensions},
		{1, 0, -1, ErrMetaLength}, {1, 0, MaxMeta + 1, ErrMetaLength},
	} {
		_, err := BodyBytes(v.key, v.dims, v.meta)
		require.ErrorIs(t, err, v.err, "%+v", v)
	}
	h := newHeap(t, Options{})
	_, c, err := h.Alloc(0, 20)
	require.NoError(t, err)
	require.ErrorIs(t, h.WriteBody(c.Body, Content{Key: make([]byte, 17)}), ErrBodySize)
	require.ErrorIs(t, h.WriteBody(c.Body, Content{}), ErrKeyLength)
	require.Zero(t, *h.BodyAt(c.Body))
	require.NoError(t, h.WriteBody(c.Body, Content{Key: make([]byte, 16)}), "up to the end of the last unit")
}

// Memory stays bounded when the sizes change: what was freed in small pieces serves large ones and the reverse.
func TestChurnReusesMemory(t *testing.T) {
	h := newHeap(t, Options{})
	r := seeded(t)
	live := make([]uint32, 2000)
	if inRace {
		live = live[:300]
	}
	for phase, body := range []int{40, maxBody, 17, 5000, 300, maxBody, 1, 2500, 40} {
		for round := range 3 {
			for i := range live {
				if live[i] != 0 && (round == 2 || r.IntN(2) == 0) {
					h.Free(live[i])
					live[i] = 0
				}
				if live[i] == 0 {
					unit, _, err := h.Alloc(0, 1+r.IntN(body))
					require.NoError(t, err)
					live[i] = unit
				}
			}
		}
		checkHeap(t, h)
		t.Logf("phase %d, bodies up to %d: %+v", phase, body, h.Stats())
	}
	peak := int64(len(live)) * (cell.Size + maxBody) / 2
	require.LessOrEqual(t, h.Stats().Mapped, 2*peak+2*chunkBytes)
	for _, unit := range live {
		h.Free(unit)
	}
	require.Zero(t, h.Stats().Used)
	for n := 1; n <= h.chunks; n++ {
		require.Equal(t, tiledUnits, int(h.At(uint32(n)<<chunkShift).Units), "a chunk without records is one block")
	}
}

func TestAllocFailsCleanly(t *testing.T) {
	left := 2 // the directory and one chunk
	refused := errors.New("refused by the test")
	h := newHeap(t, Options{BeforeMap: func(int) error {
		if left--; left < 0 {
			return refused
		}
		return nil
	}})
	first, _, err := h.Alloc(7, 100)
	require.NoError(t, err)
	other, _, err := h.Alloc(2, 100)
	require.NoError(t, err, "a stripe that cannot grow takes from another")
	require.Equal(t, first>>chunkShift, other>>chunkShift)
	for err == nil {
		_, _, err = h.Alloc(2, maxBody)
	}
	require.ErrorIs(t, err, ErrNoMemory)
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, h.Stats().Chunks)
	checkHeap(t, h)
	h.Free(other)
	_, _, err = h.Alloc(2, 100)
	require.NoError(t, err)

	_, err = NewHeap(Options{BeforeMap: func(int) error { return refused }})
	require.ErrorIs(t, err, ErrNoMemory)
}

func TestUnitNumbersRunOut(t *testing.T) {
	h := newHeap(t, Options{})
	h.chunks = maxChunks - 1
	_, _, err := h.Alloc(0, 1)
	h.chunks = 0
	require.ErrorIs(t, err, ErrExhausted)
	require.ErrorIs(t, err, ErrNoMemory)
}

func TestWalkSeesEachRecord(t *testing.T) {
	h := newHeap(t, Options{})
	r := seeded(t)
	want := map[uint32]bool{}
	for range 5000 {
		unit, _, err := h.Alloc(r.IntN(100), r.IntN(3000))
		require.NoError(t, err)
		want[unit] = true
		if r.IntN(3) == 0 {
			h.Free(unit)
			delete(want, unit)
		}
	}
	h.Walk(func(unit uint32, c *cell.Cell) bool {
		require.True(t, want[unit])
		require.Same(t, h.At(unit), c)
		delete(want, unit)
		return true
	})
	require.Empty(t, want)
	calls := 0
	h.Walk(func(uint32, *cell.Cell) bool { calls++; return false })
	require.Equal(t, 1, calls)
}

func TestStripesAtOnce(t *testing.T) {
	h := newHeap(t, Options{})
	var wg sync.WaitGroup
	passed := make(chan uint32, 64) // blocks are freed by others than those who asked for them
	for g := range uint64(4) {
		r := rand.New(rand.NewPCG(seeded(t).Uint64(), g))
		wg.Go(func() {
			for range 5000 {
				unit, c, err := h.Alloc(r.IntN(3), r.IntN(400))
				if err != nil {
					t.Error(err)
					return
				}
				c.Seq = uint64(unit)
				select {
				case passed <- unit:
				case old := <-passed:
					if h.At(old).Seq != uint64(old) {
						t.Errorf("unit %#x was handed out twice", old)
					}
					h.Free(old)
					h.Free(unit)
				}
			}
		})
	}
	wg.Wait()
	close(passed)
	for unit := range passed {
		h.Free(unit)
	}
	require.Zero(t, h.Stats().Used)
}

// A child must not inherit the memory, a core file not hold it, and only a store that grows pays for huge pages.
func TestMappingsAreAdvised(t *testing.T) {
	if inRace {
		t.Skip("with the tag race the memory is on the Go heap")
	}
	h := newHeap(t, Options{})
	for h.Stats().Chunks < 2 {
		_, _, err := h.Alloc(0, maxBody)
		require.NoError(t, err)
	}
	require.Subset(t, vmFlags(t, h.Directory()), []string{"dc", "dd"})
	for n, huge := range []bool{false, true} {
		flags := vmFlags(t, addressOf(h.At(uint32(n+1)<<chunkShift)))
		require.Subset(t, flags, []string{"dc", "dd"})
		if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
			t.Skip("/sys/kernel/mm/transparent_hugepage is not there")
		}
		require.Equal(t, huge, strings.Contains(strings.Join(flags, " "), "hg"), "chunk %d", n+1)
	}
}

// vmFlags are the kernel's flags of the mapping at an address.
func vmFlags(t *testing.T, at uintptr) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	inside := false
	head := regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) `)
	for line := range strings.Lines(string(text)) {
		if m := head.FindStringSubmatch(line); m != nil {
			var from, to uintptr
			_, err := fmt.Sscanf(m[1]+" "+m[2], "%x %x", &from, &to)
			require.NoError(t, err)
			inside = from <= at && at < to
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return strings.Fields(flags)
		}
	}
	t.Fatalf("no mapping at %#x", at)
	return nil
}

func TestTrimGivesPagesBack(t *testing.T) {
	if inRace || checked {
		t.Skip("Trim does nothing with the tags race and invariants")
	}
	h := newHeap(t, Options{})
	var units []uint32
	for h.Stats().Chunks < 3 {
		unit, _, err := h.Alloc(0, 1000)
		require.NoError(t, err)
		units = append(units, unit)
	}
	keep := units[len(units)/2]
	h.At(keep).Seq = 42
	for _, unit := range units {
		if unit != keep {
			h.Free(unit)
		}
	}
	require.Greater(t, h.Trim(), int64(3*chunkBytes-10*trimPages*pageBytes))
	require.Equal(t, uint64(42), h.At(keep).Seq)
	checkHeap(t, h)
	_, c, err := h.Alloc(0, maxBody)
	require.NoError(t, err)
	require.Zero(t, c.Seq)
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("key"), []byte("meta"), []byte{1, 2, 3}, true)
	f.Add([]byte{}, []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, key, meta, dims []byte, tensor bool) {
		h := newHeap(t, Options{})
		v := Content{Key: key, Meta: meta, Tensor: tensor}
		for _, d := range dims {
			v.Shape = append(v.Shape, int64(d)<<50)
		}
		_, c, err := record(h, 0, v)
		if len(key) < 1 || len(key) > MaxKey || len(meta) > MaxMeta || len(dims) > MaxDims {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		b := h.BodyAt(c.Body)
		require.Equal(t, string(key), string(Key(b)))
		require.Equal(t, string(meta), string(Meta(b)))
		if tensor {
			require.ElementsMatch(t, v.Shape, Shape(b))
		} else {
			require.Empty(t, Shape(b))
		}
	})
}
