package handle

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdsAreNeverReused(t *testing.T) {
	a, b := NewTable[int](1), NewTable[int](2)
	seen := map[uint64]bool{}
	for i := range 1000 {
		id, err := a.Add(i)
		require.NoError(t, err)
		require.False(t, seen[id])
		seen[id] = true
		v, ok := a.Get(id)
		require.True(t, ok)
		require.Equal(t, i, v)
		_, ok = b.Get(id)
		require.False(t, ok, "an id of another kind")
		if i%3 > 0 {
			_, ok = a.Remove(id)
			require.True(t, ok)
			_, ok = a.Remove(id)
			require.False(t, ok)
			_, ok = a.Get(id)
			require.False(t, ok)
		}
	}
	require.Equal(t, 334, a.Len())
	for _, id := range []uint64{0, 1, ^uint64(0), 1 << 63} {
		_, ok := a.Get(id)
		require.False(t, ok)
	}
}

func TestSlotsGrowUnderReaders(t *testing.T) {
	table := NewTable[uint64](7)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var ids []uint64
			for i := range uint64(2000) {
				id, err := table.Add(i)
				if err != nil {
					t.Error(err)
					return
				}
				ids = append(ids, id)
				if v, ok := table.Get(ids[i/2]); !ok || v != i/2 {
					t.Errorf("id %x: %d, %v", ids[i/2], v, ok)
					return
				}
			}
			for _, id := range ids {
				table.Remove(id)
			}
		})
	}
	wg.Wait()
	require.Zero(t, table.Len())
}

func TestAFullTableRefuses(t *testing.T) {
	table := NewTable[int](1)
	table.serial = maxSerial - 2
	_, err := table.Add(1)
	require.NoError(t, err)
	_, err = table.Add(2)
	require.ErrorIs(t, err, ErrFull)
}

func BenchmarkGet(b *testing.B) {
	table := NewTable[*int](1)
	id, _ := table.Add(new(int))
	for b.Loop() {
		if _, ok := table.Get(id); !ok {
			b.Fatal("gone")
		}
	}
}
