package index

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/arena/cell"
)

// seeded returns random numbers whose seed is printed and can be set by MOORAGE_TEST_SEED.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("MOORAGE_TEST_SEED"), 10, 64); err == nil {
		n = v
	}
	t.Logf("MOORAGE_TEST_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

func newHeap(t testing.TB, o Options) *Heap {
	t.Helper()
	h, err := NewHeap(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		checkHeap(t, h)
		h.Close()
	})
	return h
}

// shard is a table with its heap and a hash of choice, used as the store uses them.
type shard struct {
	t    testing.TB
	h    *Heap
	tab  *Table
	hash func(key []byte) uint32
}

func strongTag(key []byte) uint32 { return Tag(Hash(key)) }

func newShard(t testing.TB, o Options, hash func([]byte) uint32) *shard {
	t.Helper()
	h := newHeap(t, o)
	tab, err := NewTable(h)
	require.NoError(t, err)
	t.Cleanup(func() {
		checkTable(t, tab)
		tab.Close()
	})
	return &shard{t: t, h: h, tab: tab, hash: hash}
}

func record(h *Heap, stripe int, v Content) (uint32, *cell.Cell, error) {
	n, err := BodyBytes(len(v.Key), len(v.Shape), len(v.Meta))
	if err != nil {
		return 0, nil, err
	}
	unit, c, err := h.Alloc(stripe, n)
	if err != nil {
		return 0, nil, err
	}
	if err := h.WriteBody(c.Body, v); err != nil {
		h.Free(unit)
		return 0, nil, err
	}
	return unit, c, nil
}

// put publishes a record whose Seq is value and says whether it replaced one.
func (s *shard) put(key []byte, value uint64) (replaced bool, err error) {
	tag := s.hash(key)
	unit, c, err := record(s.h, int(tag), Content{Key: key})
	if err != nil {
		return false, err
	}
	c.Seq = value
	if old := s.tab.Lookup(tag, key); old != 0 {
		if !s.tab.Swap(tag, old, unit) {
			s.t.Fatalf("swap: %q not in the table", key)
		}
		s.h.Free(old)
		return true, nil
	}
	if err := s.tab.Insert(tag, unit); err != nil {
		s.h.Free(unit)
		return false, err
	}
	return false, nil
}

func (s *shard) get(key []byte) (uint64, bool) {
	if unit := s.tab.Lookup(s.hash(key), key); unit != 0 {
		return s.h.At(unit).Seq, true
	}
	return 0, false
}

func (s *shard) remove(key []byte) bool {
	tag := s.hash(key)
	unit := s.tab.Lookup(tag, key)
	if unit == 0 {
		return false
	}
	if !s.tab.Delete(tag, unit) {
		s.t.Fatalf("delete: %q not in the table", key)
	}
	s.h.Free(unit)
	return true
}

// checkTable checks the order, that every key can be reached from its home, and the empty last slot.
func checkTable(t testing.TB, tab *Table) {
	t.Helper()
	count, before := 0, uint32(0)
	for at, s := range tab.slots {
		if s == 0 {
			continue
		}
		tag := uint32(s >> 32)
		home := int(tag >> tab.shift)
		if tag < before || home > at || at > home && tab.slots[at-1] == 0 {
			t.Fatalf("slot %d: tag %#x with home %d behind tag %#x", at, tag, home, before)
		}
		count, before = count+1, tag
	}
	if n := len(tab.slots); n > 0 && (count != tab.count || tab.slots[n-1] != 0) {
		t.Fatalf("%d of %d keys, last slot %#x", count, tab.count, tab.slots[n-1])
	}
}

// checkHeap walks all memory and checks that blocks tile the chunks, that no free blocks are neighbours, and that
// exactly the free blocks are on the lists.
func checkHeap(t testing.TB, h *Heap) {
	t.Helper()
	free := map[uint32]bool{}
	var used [Stripes]int
	for n := uint32(1); n <= h.dir.chunks.Load(); n++ {
		unit, before, wasFree := n<<chunkShift, uint32(0), false
		for c := h.At(unit); c != nil; unit, c = unit+uint32(c.Units), h.after(unit, c) {
			isFree := c.Kind == cell.KindFree
			if c.Units < cellUnits || c.Before != before || isFree && wasFree {
				t.Fatalf("unit %#x: units %d, before %d (says %d), free %v after %v", unit, c.Units, before, c.Before, isFree, wasFree)
			}
			if isFree {
				free[unit] = true
			} else {
				used[h.dir.owner[n]] += int(c.Units)
			}
			before, wasFree = uint32(c.Units), isFree
		}
		if unit != n<<chunkShift+tiledUnits {
			t.Fatalf("chunk %d ends at unit %#x", n, unit)
		}
	}
	for i := range h.stripes {
		s := &h.stripes[i]
		if s.used != used[i] {
			t.Fatalf("stripe %d: %d units used, counted %d", i, s.used, used[i])
		}
		for k, unit := range s.free {
			if listed := s.full[k/64]>>(k%64)&1 == 1; listed != (unit != 0) {
				t.Fatalf("stripe %d, length %d: bit %v, head %#x", i, k, listed, unit)
			}
			for before := uint32(0); unit != 0; before, unit = unit, links(h.At(unit)).next {
				if c := h.At(unit); !free[unit] || class(c) != uint32(k) || links(c).prev != before {
					t.Fatalf("stripe %d: unit %#x on list %d", i, unit, k)
				}
				delete(free, unit)
			}
		}
	}
	if len(free) != 0 {
		t.Fatalf("%d free blocks on no list", len(free))
	}
}
