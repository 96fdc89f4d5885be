package arena

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUsable fills a region until the first failure, then replaces objects at
// random and fills again, several times over: at least 96 % must be in use.
func TestUsable(t *testing.T) {
	const size = 8 << 30
	for seed := range uint64(3) {
		a, err := NewExtents(size, 4<<10)
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(seed, 7))
		var live []uint32
		fill := func() {
			for {
				e, err := a.Alloc(logUniform(r, 1<<10, 16<<20), false)
				if err != nil {
					require.True(t, errors.Is(err, ErrNoSpace))
					return
				}
				live = append(live, e.Block)
			}
		}
		drop := func() {
			k := r.IntN(len(live))
			require.NoError(t, a.Free(live[k]))
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
		}
		for round := range 30 {
			fill()
			used := float64(a.Stats().Used) / size
			t.Logf("seed %d round %d: %.2f %% of the region in use, %d extents, largest free %d KiB, %d free blocks", seed, round, 100*used, len(live), a.Stats().LargestFree>>10, a.Stats().FreeBlocks)
			for range len(live) / 3 {
				drop()
			}
		}
		require.NoError(t, a.Close())
	}
}
