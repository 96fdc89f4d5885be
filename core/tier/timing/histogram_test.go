package timing

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBucketsAreOneBehindTheOther(t *testing.T) {
	next := int64(0)
	for o := range octaves {
		for i := range octave {
			first, last := bounds(o, i)
			if first != next || last < first || (last-first)*octave > max(first, octave-1) {
				require.Fail(t, "bounds", "bucket %d %d: %d to %d, after %d", o, i, first, last, next-1)
			}
			for _, v := range []int64{first, first + (last-first)/2, last} {
				if atO, atI := bucket(v); atO != o || atI != i {
					require.Fail(t, "bucket", "%d is in %d %d, not in %d %d", v, atO, atI, o, i)
				}
			}
			next = last + 1
		}
	}
	require.Equal(t, int64(math.MinInt64), next, "the last bucket ends with the last number")
}

// values are log-uniform over some decades, with zeros and repetitions, as latencies are.
func values(r *rand.Rand, n int) []int64 {
	decades := 1 + r.Float64()*17
	found := make([]int64, n)
	for i := range found {
		if r.IntN(10) > 0 {
			found[i] = int64(math.Pow(10, r.Float64()*decades))
		}
	}
	return found
}

func distributionOf(of []int64) Distribution {
	h := new(histogram)
	for _, v := range of {
		h.add(v)
	}
	return h.distribution(uint64(len(of)))
}

func TestQuantilesAreNearTheExactOnes(t *testing.T) {
	r := random(t)
	for range 50 {
		all := values(r, 1+r.IntN(3000))
		d := distributionOf(all)
		slices.Sort(all)
		require.EqualValues(t, len(all), d.Count)
		require.Equal(t, all[0], d.Min)
		require.Equal(t, all[len(all)-1], d.Max)
		var sum int64
		for _, v := range all {
			sum += v
		}
		require.Equal(t, sum, d.Sum)
		for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
			rank := max(int(math.Ceil(q*float64(len(all)))), 1)
			exact, found := all[rank-1], d.Quantile(q)
			if exact < octave {
				require.Equal(t, exact, found, "quantile %v of %d", q, len(all))
			}
			require.LessOrEqual(t, abs(found-exact), exact/2048, "quantile %v of %d: %d, exactly %d", q, len(all), found, exact)
			require.EqualValues(t, len(all)-int(math.Ceil(q*float64(len(all)))), d.Beyond(q))
		}
	}
}

func abs(v int64) int64 { return max(v, -v) }

func TestMergedIsPooled(t *testing.T) {
	r := random(t)
	for range 50 {
		var pooled []int64
		var merged Distribution
		for range 1 + r.IntN(5) {
			part := values(r, r.IntN(500))
			pooled = append(pooled, part...)
			d := distributionOf(part)
			merged.Merge(&d)
		}
		require.Equal(t, distributionOf(pooled), merged)
	}
}

func TestNothing(t *testing.T) {
	d := distributionOf(nil)
	require.Equal(t, Distribution{}, d)
	require.Zero(t, d.Quantile(0.5))
	require.Zero(t, d.Mean())
	zeros := distributionOf([]int64{0, 0})
	require.Equal(t, Distribution{Count: 2, Buckets: []Bucket{{0, 0, 2}}}, zeros)
	require.Zero(t, zeros.Quantile(1))
}
