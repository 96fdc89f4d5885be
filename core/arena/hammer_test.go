package arena

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHammer lets goroutines allocate, stamp, check and free extents of one
// small arena while trim and prefault run over it. An extent that overlaps
// another, or a page that was given back under an owner, loses its stamp.
func TestHammer(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a, err := Open(Options{Size: 64 << 20, Prefault: PrefaultBackground})
	require.NoError(t, err)
	const workers = 4
	steps := 20_000
	if testing.Short() {
		steps = 3_000
	}
	var wg, sweepers sync.WaitGroup
	stop := make(chan struct{})
	for w := range workers {
		wg.Go(func() { hammerOne(t, a, rand.New(rand.NewPCG(seed, uint64(w))), steps) })
	}
	sweepers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if _, err := a.Trim(); err != nil {
				t.Error(err)
			}
			if err := a.fill(); err != nil && !errors.Is(err, ErrNoPopulate) {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(stop)
	sweepers.Wait()
	s := a.Stats()
	require.Zero(t, s.Used)
	require.Zero(t, s.Extents)
	require.EqualValues(t, 1, s.FreeBlocks)
	newNaiveWarm(a.Extents).check(t, a.Extents)
	require.NoError(t, a.Close())
}

type stamped struct {
	Extent
	stamp uint64
}

func hammerOne(t *testing.T, a *Arena, r *rand.Rand, steps int) {
	var live []stamped
	for range steps {
		if len(live) < 40 && r.IntN(2) == 0 {
			e, err := a.Alloc(logUniform(r, 64, 1<<20), r.IntN(8) == 0)
			if errors.Is(err, ErrNoSpace) {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			s := stamped{e, r.Uint64()}
			a.stampAll(s, binary.LittleEndian.PutUint64)
			live = append(live, s)
		} else if len(live) > 0 {
			k := r.IntN(len(live))
			if !a.free(t, live[k]) {
				return
			}
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	for _, s := range live {
		if !a.free(t, s) {
			return
		}
	}
}

// stampAll calls put for the first and last word of the extent and for one in
// every page between.
func (a *Arena) stampAll(s stamped, put func([]byte, uint64)) {
	b := a.WriterBytes(s.Off, s.Len)
	for i := uint64(0); i < s.Len; i += 4096 {
		put(b[i:], s.stamp+i)
	}
	put(b[s.Len-8:], s.stamp)
}

func (a *Arena) free(t *testing.T, s stamped) bool {
	whole := true
	b := a.ReaderBytes(s.Off, s.Len)
	for i := uint64(0); i < s.Len; i += 4096 {
		whole = whole && binary.LittleEndian.Uint64(b[i:]) == s.stamp+i
	}
	whole = whole && binary.LittleEndian.Uint64(b[s.Len-8:]) == s.stamp
	if !whole {
		t.Errorf("extent %+v has lost its stamp", s)
	}
	if err := a.Free(s.Block); err != nil {
		t.Error(err)
		return false
	}
	return whole
}
