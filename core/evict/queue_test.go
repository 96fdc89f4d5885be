package evict

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A queue against a slice, over many blocks, with pops and pushes in the middle
// of sweeps that leave holes of every size.
func TestQueueKeepsItsOrderWhileSwept(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for run := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, run))
		p := &pool{}
		q := &queue{pool: p}
		var want []uint64
		cursor, next := 0, uint64(0)
		for range 400 {
			n := r.IntN(3 * blockLen)
			switch r.IntN(4) {
			case 0, 1:
				for range n {
					q.push(entry{seq: next, size: 1})
					want = append(want, next)
					next++
				}
			case 2:
				for range n {
					e, ok := q.pop()
					if !ok {
						require.Empty(t, want)
						break
					}
					if len(want) == 0 || want[0] != e.seq {
						require.Fail(t, "wrong entry", "%d", e.seq)
					}
					want, cursor = want[1:], max(0, cursor-1)
				}
			case 3:
				if !q.sweeping {
					q.startSweep()
					cursor = 0
				}
				dead := r.Uint64N(100)
				keep := func(e entry) bool { return e.seq%100 >= dead }
				q.sweep(n, keep)
				end := min(len(want), cursor+n)
				kept := want[:cursor:cursor]
				for _, seq := range want[cursor:end] {
					if seq%100 >= dead {
						kept = append(kept, seq)
					}
				}
				cursor = len(kept)
				want = append(kept, want[end:]...)
				require.Equal(t, cursor < len(want), q.sweeping)
			}
			require.Equal(t, len(want), q.len())
			require.Equal(t, uint64(len(want))*granule, q.bytes)
			require.LessOrEqual(t, p.blocks-p.spares, len(want)/blockLen+4, "blocks of the queue")
		}
	}
}
