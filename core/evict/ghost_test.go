package evict

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGhostForgetsInOrder(t *testing.T) {
	const limit = 10_000
	var g ghost
	for i := range uint64(5 * limit) {
		g.add(i, limit)
	}
	for i := range uint64(5 * limit) {
		require.Equal(t, i >= 4*limit, g.take(i), i)
		require.False(t, g.take(i))
	}
}

// The hand keeps up: what has expired never makes the table be built again.
func TestGhostIsSweptInStep(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, limit := range []uint32{16, 17, 100, 3000, 50_000} {
		var g ghost
		g.add(r.Uint64(), limit)
		table := &g.slots[0]
		for range 6 * limit {
			g.add(r.Uint64(), limit)
			if g.used > int(limit+limit/8+4) {
				require.Fail(t, "expired keys pile up", "%d of %d", g.used, limit)
			}
		}
		require.Same(t, table, &g.slots[0])
	}
}

// Fingerprints that all share one home still leave a free slot to stop at.
func TestGhostSurvivesOneCrowdedHome(t *testing.T) {
	var g ghost
	added := uint32(0)
	for hash := uint64(1); added < 2000; hash++ {
		if fingerprint(hash)>>22 == 1 {
			g.add(hash, 500)
			require.Less(t, g.used, len(g.slots))
			added++
		}
	}
}
