package tier

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestArrivedOnce: in whatever pieces and order bytes come, each chunk is kept or sent once, when all of it is there.
func TestArrivedOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		from := random.Uint64N(5) * ChunkBytes
		end := from + 1 + random.Uint64N(80*ChunkBytes)
		type span struct{ at, n uint64 }
		var spans []span
		for at := from; at < up(end); {
			n := min(up(1+random.Uint64N(6*ChunkBytes)), up(end)-at)
			spans = append(spans, span{at, n})
			at += n
		}
		random.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		var o overlap
		o.begin(from, up(end), end)
		o.started, o.ready = true, make(chan chunks, len(o.left)+1) // and nobody takes them out
		there := map[uint64]uint64{}
		for _, s := range spans {
			o.arrived(nil, s.at, s.n)
			for at := s.at; at < s.at+s.n; at += 4096 {
				there[at/ChunkBytes] += 4096
			}
			for _, some := range o.kept {
				for c := some.from; c < some.to; c++ {
					require.Equal(t, min(ChunkBytes, up(end)-c*ChunkBytes), there[c], "all of chunk %d", c)
				}
			}
			require.Less(t, o.count, o.batch)
		}
		all := slices.Clone(o.kept)
		for len(o.ready) > 0 {
			all = append(all, <-o.ready)
		}
		seen := map[uint64]int{}
		for _, some := range all {
			for c := some.from; c < some.to; c++ {
				seen[c]++
			}
		}
		require.Len(t, seen, int(chunksOf(end)-from/ChunkBytes))
		for c, times := range seen {
			require.Equal(t, 1, times, "chunk %d", c)
		}
	}
}
