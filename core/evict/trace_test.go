package evict

import (
	"container/list"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lru is the reference that a trace is compared with.
type lru struct {
	order list.List
	at    map[uint64]*list.Element
	room  int
}

func (l *lru) get(key uint64) bool {
	if e, ok := l.at[key]; ok {
		l.order.MoveToFront(e)
		return true
	}
	if l.order.Len() == l.room {
		last := l.order.Back()
		delete(l.at, last.Value.(uint64))
		l.order.Remove(last)
	}
	l.at[key] = l.order.PushFront(key)
	return false
}

// cache puts each missing key into a store of a fixed number of objects.
type cache struct {
	*store
	at    map[uint64]uint32
	keys  []uint64
	units uint32
	t     testing.TB
}

func newCache(t testing.TB, objects int) *cache {
	return &cache{store: newStore(uint64(objects)*64, objects), at: map[uint64]uint32{}, keys: make([]uint64, objects), t: t}
}

func (c *cache) get(key uint64) bool {
	if u, ok := c.at[key]; ok {
		c.hit(u)
		return true
	}
	u := c.units
	if int(u) == len(c.keys) {
		u = c.evict(c.t).Unit
		delete(c.at, c.keys[u])
	} else {
		c.units++
	}
	c.at[key], c.keys[u] = u, key
	c.put(u, 64, key)
	return false
}

// hits plays a Zipf trace, with a scan of scan fresh keys after every 20 000 of
// its requests, and returns the share of the Zipf requests that hit.
func hits(get func(uint64) bool, seed uint64, scan int) float64 {
	const requests, warm = 400_000, 100_000
	r := rand.New(rand.NewPCG(seed, 7))
	zipf := rand.NewZipf(r, 1.05, 8, 100_000)
	hit, fresh := 0, uint64(1<<40)
	for i := range requests {
		if get(zipf.Uint64()*0x9e3779b97f4a7c15>>8) && i >= warm {
			hit++
		}
		if i%20_000 == 0 {
			for range scan {
				get(fresh)
				fresh++
			}
		}
	}
	return float64(hit) / (requests - warm)
}

func TestHitRatioBesideLRU(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const objects = 4000
	for _, test := range []struct {
		name   string
		scan   int
		margin float64 // hit ratio above LRU's, at least
	}{
		{"zipf", 0, 0.03}, {"zipf and scans", 2 * objects, 0.06},
	} {
		ours := hits(newCache(t, objects).get, seed, test.scan)
		theirs := hits((&lru{at: map[uint64]*list.Element{}, room: objects}).get, seed, test.scan)
		t.Logf("%s: S3-FIFO %.3f, LRU %.3f", test.name, ours, theirs)
		require.GreaterOrEqual(t, ours, theirs+test.margin, test.name)
	}
}

// A set that is in use survives a scan of ten times the store.
func TestScanLeavesTheUsedSet(t *testing.T) {
	const objects, used = 4000, 2000
	c := newCache(t, objects)
	for range 4 {
		for k := range uint64(used) {
			c.get(k)
		}
	}
	for k := range uint64(10 * objects) {
		c.get(1<<40 + k)
	}
	kept := 0
	for k := range uint64(used) {
		if _, ok := c.at[k]; ok {
			kept++
		}
	}
	// One is the price of the bound on the work of a call.
	require.GreaterOrEqual(t, kept, used-used/maxPassed)
}
