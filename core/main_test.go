package core

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/arena/cell"
	"moorage/core/index"
	"moorage/internal/leak"
)

// TestMain fails when the tests have left a region, a mapping of the index, a descriptor or a goroutine.
func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	os.Exit(leak.Run(m, leftovers))
}

// leftovers names what is still there though every store was closed and every view released. The watcher of a host lives
// as long as the process.
func leftovers() (left string) {
	if n := leftRegions(); n > 0 {
		left += fmt.Sprintf("%d mappings of regions; ", n)
	}
	if n := index.Live(); n > 0 {
		left += fmt.Sprintf("%d mappings of the index; ", n)
	}
	left += leak.Descriptors(func(to string) bool { return strings.Contains(to, "memfd:") || strings.Contains(to, "io_uring") })
	return left + leak.Goroutines("moorage/core", "core.(*Host).watch")
}

func leftRegions() int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	return strings.Count(string(maps), "/memfd:moorage")
}

// open gives a store that is closed at the end of the test. By then everything must be released: it has to be unmapped.
func open(t testing.TB, o Options) *Store { return openOnHost(t, defaultHost(), o) }

func openOnHost(t testing.TB, h *Host, o Options) *Store {
	t.Helper()
	if o.Capacity == 0 {
		o.Capacity = 64 << 20
	}
	s, err := OpenOn(h, nil, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = s.Close(true)
		require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond, "something is still held")
	})
	return s
}

func (s *Store) isUnmapped() bool {
	s.drains.mu.Lock()
	defer s.drains.mu.Unlock()
	return s.drains.unmapped
}

func put(t testing.TB, s *Store, key string, data []byte) PutResult {
	t.Helper()
	r, err := s.Put([]byte(key), data, PutOptions{})
	require.NoError(t, err)
	return r
}

func get(t testing.TB, s *Store, key string) View {
	t.Helper()
	v, err := s.Get([]byte(key))
	require.NoError(t, err)
	return v
}

func stats(t testing.TB, s *Store) Stats {
	t.Helper()
	st, err := s.Stats()
	require.NoError(t, err)
	return st
}

// requireEmpty says that nothing is left of any object in a store that is still open.
func requireEmpty(t testing.TB, s *Store) {
	t.Helper()
	if s.tiered != nil {
		cleaned(t, s) // what is being written is viewed as long
	}
	st := stats(t, s)
	require.Zero(t, st.Objects)
	require.Zero(t, st.Used, "extents")
	require.Zero(t, st.BorrowedObjects)
	require.Zero(t, st.PinnedObjects)
	require.Zero(t, st.PinnedBytes)
	require.Zero(t, st.HeldBytes)
	require.Zero(t, st.Protected)
	require.Zero(t, s.outstanding.Load(), "cells that are not home")
	require.Zero(t, s.heap.Stats().Used, "record memory")
	require.Empty(t, s.reserved.at)
}

// seeded is a random source whose seed is printed when the test fails; MOORAGE_SEED repeats one.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("MOORAGE_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("MOORAGE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// forkHost is a host of its own words, so that the stores of other tests do not see the forks.
var forkHost = sync.OnceValue(func() *Host { return NewHost(nil, nil, nil) })

// forks does to the words of a host what the fork handlers do. No process is made.
type forks struct {
	h  *Host
	mu sync.Mutex
}

// fork runs during between the two handlers and returns the slot of the child.
func (f *forks) fork(during func()) (slot uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.h.words
	for p.Child[slot].Load() != 0 {
		slot++
	}
	if slot >= cell.Permanent {
		panic("no slot for a child")
	}
	p.Child[slot].Store(uint64(p.Epoch.Load() + 1))
	if p.High.Load() <= slot {
		p.High.Store(slot + 1)
	}
	p.Kids.Add(1)
	p.Epoch.Add(1)
	during()
	p.Epoch.Add(1)
	return slot
}

func (f *forks) end(slot uint32) {
	f.h.words.ChildEnded(slot)
	f.h.each((*Store).drainHeld)
}
