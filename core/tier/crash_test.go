package tier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tier/blockio"
	"moorage/core/tier/file/faulty"
)

// history is what may be found under a key: its states, 0 for none, from the last one that was promised to be durable on.
type history map[string][]uint64

func (h history) add(key string, seq uint64) { h[key] = append(h.of(key), seq) }

func (h history) of(key string) []uint64 {
	if h[key] == nil {
		h[key] = []uint64{0}
	}
	return h[key]
}

func (h history) promised(key string) { s := h.of(key); h[key] = s[len(s)-1:] }

func (h history) allPromised() {
	for key := range h {
		h.promised(key)
	}
}

// crashTest is one directory through some lives, each of which ends with a loss of power at any call of any operation.
type crashTest struct {
	t    testing.TB
	r    *rand.Rand
	s    *scratch
	o    Options
	h    history
	seq  uint64
	seed uint64
	fs   *faulty.Dir
}

func (c *crashTest) require() *require.Assertions { return require.New(c.t) }

// live does random operations until the directory is dead, or all are done.
func (c *crashTest) live(d *Disk, steps int) {
	for range steps {
		key := fmt.Sprint("k", c.r.IntN(12))
		switch c.r.IntN(10) {
		case 0, 1, 2, 3, 4:
			c.seq++
			n := []int{c.r.IntN(9000), c.r.IntN(100_000), c.r.IntN(600_000)}[c.r.IntN(3)]
			stored, err := c.s.put(d, key, c.seq, n)
			switch {
			case errors.Is(err, ErrFull):
				continue
			case err != nil: // in doubt
				c.h.add(key, c.seq)
				return
			}
			c.require().True(stored)
			c.h.add(key, c.seq)
			if c.o.Durability == Each {
				c.h.promised(key)
			}
		case 5, 6:
			c.h.add(key, 0)
			d.Remove([]byte(key), c.seq)
			if c.o.Durability == Each && c.r.IntN(2) == 0 {
				if d.Settle() != nil {
					return
				}
				c.h.promised(key)
			}
		case 7:
			if d.Sync() != nil {
				return
			}
			c.h.allPromised()
		case 8:
			if _, _, err := c.s.get(d, key); err != nil {
				c.require().False(errors.Is(err, ErrDamaged), "%v", err)
				return
			}
		case 9:
			if c.r.IntN(4) == 0 {
				time.Sleep(time.Duration(c.r.IntN(1000)) * time.Microsecond) // the keeper does something
			}
		}
	}
}

// found compares what an Open found with what it may find.
func (c *crashTest) found(d *Disk) {
	for key, may := range c.h {
		seq, found, err := c.s.get(d, key)
		if err != nil && c.fs.Dead() {
			return
		}
		if err != nil {
			var damaged *DamagedError
			c.require().ErrorAs(err, &damaged, "seed %d, %q", c.seed, key)
			c.require().False(damaged.Promised, "seed %d, %q: %v", c.seed, key, err)
			c.require().Equal(None, c.o.Durability, "seed %d, %q: %v", c.seed, key, err)
			found = false
		}
		if !found {
			seq = 0
			if c.o.FullEvicts || c.o.Durability == None && len(may) > 1 {
				may = append(may, 0)
			}
		}
		c.require().True(slices.Contains(may, seq), "seed %d: %q is %d, and may be %v", c.seed, key, seq, may)
		c.h[key] = []uint64{seq}
	}
	c.require().Empty(d.Recovered().Lost, "seed %d", c.seed)
	c.require().GreaterOrEqual(c.seq, d.MaxSeq(), "seed %d", c.seed)
	addsUp(c.t, d)
}

func (c *crashTest) run(lives int) {
	fs := faulty.New()
	if c.r.IntN(8) == 0 {
		fs.NoDirect()
	}
	for life := range lives {
		o := c.o
		o.FS, c.fs = fs, fs
		if c.r.IntN(4) > 0 {
			fs.DieAfter(1 + c.r.IntN([]int{10, 60, 200}[c.r.IntN(3)]))
		}
		d, err := Open(o)
		if err == nil {
			if life > 0 {
				c.found(d)
			}
			if life == 0 || !fs.Dead() { // what was not found out must not be promised
				c.live(d, 1+c.r.IntN(80))
			}
		}
		var left *faulty.Dir
		if c.r.IntN(4) == 0 {
			left = fs.Kill()
		} else {
			left = fs.Crash(c.r.Uint64())
		}
		fs.Vanish()
		if d != nil {
			c.require().Error(d.Close())
		}
		fs = left
	}
	o := c.o
	o.FS, c.fs = fs, fs
	d, err := Open(o)
	c.require().NoError(err, "seed %d", c.seed)
	c.found(d)
	c.require().NoError(d.Close())
	d, err = Open(o)
	c.require().NoError(err)
	c.require().True(d.Recovered().Clean)
	c.found(d)
	c.require().NoError(d.Close())
}

func crash(t testing.TB, s *scratch, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	c := crashTest{t: t, r: r, s: s, h: history{}, seed: seed, o: Options{
		Capacity: 4 << 20, SegmentBytes: 1 << 20, SnapshotBytes: 3 << 10, BatchEvery: 200 * time.Microsecond,
		Durability: Durability(seed % 3), Verify: Verify(r.IntN(3)), FullEvicts: r.IntN(2) == 0,
		Engine: blockio.Options{MaxPath: blockio.Layer},
	}}
	c.run(1 + r.IntN(4))
}

// Whatever a loss of power takes of what was not synced: what was promised is there, nothing older is, no other bytes are.
func TestCrash(t *testing.T) {
	s := newScratch(t, 1<<20)
	first := rand.Uint64()
	if text := os.Getenv("MOORAGE_SEED"); text != "" {
		first, _ = strconv.ParseUint(text, 10, 64)
		crash(t, s, first)
		return
	}
	for i := range uint64(200 / slower) {
		crash(t, s, first+i)
	}
}

// TestSoakCrash is TestCrash for MOORAGE_HAMMER_SECONDS.
func TestSoakCrash(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("MOORAGE_HAMMER_SECONDS"))
	if err != nil {
		t.Skip("probed MOORAGE_HAMMER_SECONDS: not set")
	}
	s, n := newScratch(t, 1<<20), 0
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); n++ {
		crash(t, s, rand.Uint64())
	}
	t.Logf("%d directories", n)
}
