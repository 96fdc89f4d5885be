package index

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever happens between the calls, a key that is there throughout is visited once, and no key twice.
func TestScanVisitsEachKeyOnce(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			r := seeded(t)
			s := newShard(t, Options{}, hash)
			stable := 10000
			if name != "strong" { // equal tags are searched one by one
				stable = 500
			}
			if inRace {
				stable /= 5
			}
			for i := range stable {
				_, err := s.put(fmt.Appendf(nil, "stable/%d", i), 1)
				require.NoError(t, err)
			}
			for range 4 {
				seen := map[string]int{}
				for cursor, done := uint64(0), false; !done; {
					var batch []string
					var tags []uint32
					room := 1 + r.IntN(300)
					next, end := s.tab.Scan(cursor, func(tag, unit uint32) bool {
						require.GreaterOrEqual(t, uint64(tag), cursor)
						batch, tags = append(batch, string(s.h.Key(unit))), append(tags, tag)
						return len(batch) < room
					})
					require.IsNonDecreasing(t, append([]uint32{0}, tags...))
					require.GreaterOrEqual(t, next, cursor)
					if n := len(tags); n > 0 && tags[0] != tags[n-1] && r.IntN(3) == 0 {
						// No room for the last tag: come back for all of it.
						next, end = uint64(tags[n-1]), false
						for n > 0 && uint64(tags[n-1]) == next {
							n--
						}
						batch = batch[:n]
					}
					for _, key := range batch {
						seen[key]++
					}
					cursor, done = next, end
					s.disturb(r.IntN(60), r.IntN, stable)
				}
				for i := range stable {
					require.Equal(t, 1, seen[fmt.Sprintf("stable/%d", i)], "stable/%d", i)
				}
				for key, n := range seen {
					require.Equal(t, 1, n, key)
				}
			}
		})
	}
}

// disturb inserts and removes other keys, replaces stable ones, grows and shrinks the table.
func (s *shard) disturb(n int, draw func(int) int, stable int) {
	for range n {
		_, err := s.put(fmt.Appendf(nil, "other/%d", draw(3*stable)), 2)
		require.NoError(s.t, err)
		_, err = s.put(fmt.Appendf(nil, "stable/%d", draw(stable)), 3)
		require.NoError(s.t, err)
		s.remove(fmt.Appendf(nil, "other/%d", draw(3*stable)))
	}
	switch draw(20) {
	case 0:
		if s.tab.bits < 20 {
			require.NoError(s.t, s.tab.rebuild(s.tab.bits+1))
		}
	case 1:
		require.NoError(s.t, s.tab.Trim())
	}
}

func TestScanIsBounded(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	for i := range 20000 {
		_, err := s.put(fmt.Appendf(nil, "key/%d", i), 1)
		require.NoError(t, err)
	}
	calls, sum := 0, 0
	for cursor, done := uint64(0), false; !done; calls++ {
		n := 0
		cursor, done = s.tab.Scan(cursor, func(uint32, uint32) bool { n++; return true })
		require.LessOrEqual(t, n, ScanSlots+8)
		sum += n
	}
	require.Equal(t, 20000, sum)
	require.GreaterOrEqual(t, calls, 20000/ScanSlots)
	require.LessOrEqual(t, calls, 2+len(s.tab.slots)/(ScanSlots-200))
}

func TestScanOfNothing(t *testing.T) {
	s := newShard(t, Options{}, strongTag)
	for _, cursor := range []uint64{0, 1 << 31, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		next, done := s.tab.Scan(cursor, func(uint32, uint32) bool { t.Fatal("visited"); return false })
		require.True(t, done)
		require.Equal(t, uint64(1<<32), next)
	}
}
