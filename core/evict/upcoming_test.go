package evict

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Upcoming says what Next gives, also in the middle of a sweep, and changes nothing.
func TestUpcomingIsWhatNextGives(t *testing.T) {
	const units = 3000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	sweeps := 0
	for range 60 {
		s := newStore(units*100, units)
		alive := map[uint32]bool{}
		for range 200 + r.IntN(6000) {
			unit := uint32(r.IntN(units))
			switch {
			case alive[unit]:
				s.remove(unit)
				delete(alive, unit)
			case r.IntN(8) == 0 && len(alive) > 0:
				delete(alive, s.evict(t).Unit)
			default:
				s.put(unit, uint64(64*(1+r.IntN(40))), uint64(unit))
				alive[unit] = true
			}
		}
		if s.small.sweeping || s.main.sweeping {
			sweeps++
		}
		var want []Candidate
		before := s.Usage()
		s.Upcoming(10*units, func(c Candidate) bool {
			want = append(want, c)
			return len(want) < 500
		})
		require.Equal(t, before, s.Usage())
		require.NotEmpty(t, want)
		for i, c := range want {
			got := s.evict(t)
			require.Equal(t, c.Unit, got.Unit, "number %d", i)
		}
	}
	require.Positive(t, sweeps, "a sweep was under way")
}

// What is hot is left out, and no more is looked at than was asked for.
func TestUpcomingLeavesOutWhatIsHot(t *testing.T) {
	s := newStore(100*64*10, 200)
	for unit := range uint32(100) {
		s.put(unit, 64, uint64(unit))
	}
	for unit := range uint32(100) {
		s.cells[unit].frequency = 2 * uint8(unit%2)
	}
	looked := 0
	s.Upcoming(100, func(c Candidate) bool {
		require.Zero(t, c.Unit%2)
		looked++
		return true
	})
	require.Equal(t, 50, looked)
	looked = 0
	s.Upcoming(10, func(Candidate) bool { looked++; return true })
	require.Equal(t, 5, looked)
}
