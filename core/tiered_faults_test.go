package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tier"
	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
	"moorage/core/tier/timing"
)

// requireTimesOfFailures says that what failed has a time, and is in no distribution.
func requireTimesOfFailures(t testing.TB, s *Store, kind timing.Kind) {
	t.Helper()
	failed := 0
	for _, r := range recordsSince(t, s, 0, kind) {
		if r.Class == timing.Failed {
			failed++
			require.Positive(t, r.Total(), "%v", kind)
		}
	}
	require.Positive(t, failed, "%v", kind)
	for _, one := range s.Timings().Snapshot().Kinds {
		if one.Kind == kind && one.Failed > 0 {
			require.GreaterOrEqual(t, one.Failed, uint64(failed))
			return
		}
	}
	t.Errorf("no failures of %v are counted", kind)
}

// A file system that turns read-only under the store: what is in memory and on disk can be read, a put that needs room says
// why there is none, and when it is writable again everything goes on.
func TestAFileSystemThatTurnsReadOnly(t *testing.T) {
	for _, d := range []tier.Durability{tier.Batch, tier.Each, tier.None} {
		dir, o := onLayer()
		o.Disk.Durability = d
		s := open(t, o)
		const size = 256 << 10
		put(t, s, "on disk", pattern(100, size))
		toDisk(t, s)
		for _, op := range []faulty.Op{faulty.Write, faulty.Allocate, faulty.Truncate, faulty.Rename, faulty.Remove} {
			dir.Inject(faulty.Rule{Op: op, Err: syscall.EROFS})
		}
		var err error
		stored := uint64(0)
		for ; err == nil; stored++ {
			_, err = s.Put(fmt.Append(nil, "key ", stored), pattern(stored, size), PutOptions{})
		}
		stored--
		require.ErrorIs(t, err, ErrCapacity)
		require.ErrorIs(t, err, file.ErrReadOnly)
		require.ErrorContains(t, err, "read-only")
		errs, err := s.PersistEach(1, func(int) []byte { return []byte("key 0") })
		require.True(t, err != nil || errs[0] != nil)
		require.ErrorIs(t, errors.Join(append(errs, err)...), file.ErrReadOnly)
		for i := range stored {
			requirePattern(t, s, fmt.Sprint("key ", i), i, size)
		}
		require.NoError(t, s.Remove([]byte("key 1"))) // room to read into
		requirePattern(t, s, "on disk", 100, size)
		requireTimesOfFailures(t, s, timing.Persist)
		if d == tier.Each { // it ends as it is
			err = s.Close(true)
			require.ErrorIs(t, err, ErrDisk)
			require.ErrorIs(t, err, file.ErrReadOnly)
			require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
			dir.Heal()
			requirePattern(t, open(t, o), "on disk", 100, size)
			continue
		}
		dir.Heal()
		require.NoError(t, s.Flush())
		require.NoError(t, s.Close(true))
		s = open(t, o)
		requirePattern(t, s, "on disk", 100, size)
		requirePattern(t, s, "key 0", 0, size)
		_, err = s.Get([]byte("key 1"))
		require.ErrorIs(t, err, ErrNotFound)
	}
}

// A directory that is removed under the store: nothing that it has is lost to it, and what finds no room says so.
func TestADirectoryThatIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	o := onDir(dir)
	o.Disk.SegmentBytes = 1 << 20
	s := open(t, o)
	const size = 256 << 10
	put(t, s, "on disk", pattern(100, size))
	toDisk(t, s)
	require.NoError(t, os.RemoveAll(dir))
	var err error
	stored := uint64(0)
	for ; err == nil && stored < 200; stored++ {
		_, err = s.Put(fmt.Append(nil, "key ", stored), pattern(stored, size), PutOptions{})
	}
	stored--
	require.ErrorIs(t, err, ErrCapacity)
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, syscall.ENOENT)
	removed := false
	for i := range stored { // what is in memory is usable; without it there is room to read into
		key := fmt.Sprint("key ", i)
		if !inMemory(s, key) {
			continue
		}
		requirePattern(t, s, key, i, size)
		if !removed {
			require.NoError(t, s.Remove([]byte(key)))
			removed = true
		}
	}
	for i := range stored {
		if found, _ := s.Exists(fmt.Append(nil, "key ", i)); found {
			requirePattern(t, s, fmt.Sprint("key ", i), i, size)
		}
	}
	requirePattern(t, s, "on disk", 100, size)
	requireTimesOfFailures(t, s, timing.Demote)
	require.NoError(t, s.Close(true))
	require.NoDirExists(t, dir)
}

// What is read from disk is written into its extent and nowhere else, whatever its size is.
func TestNeighboursOfAReadAreUntouched(t *testing.T) {
	for _, path := range []tier.Options{{}, {Buffered: true}, {Mapped: true}} {
		o := onDir(t.TempDir())
		o.Disk.Buffered, o.Disk.Mapped = path.Buffered, path.Mapped
		o.Disk.Promote = PromoteNever
		s := open(t, o)
		r := seeded(t)
		sizes := map[string]int{}
		name := func(i int) string { return fmt.Sprint("name ", i) }
		for i := range 24 {
			n := []int{r.IntN(300), r.IntN(9000), 32<<10 - 1 + r.IntN(3), 4096 * (1 + r.IntN(10)), r.IntN(48 << 10)}[r.IntN(5)]
			sizes[name(i)] = n
			put(t, s, name(i), pattern(uint64(i), n))
		}
		toDisk(t, s)
		// Memory is neighbours that stay, and holes between them.
		var neighbours []string
		for i := 0; ; i++ {
			key := fmt.Sprint("neighbour ", i)
			n := 64 + r.IntN(60<<10)
			if stats(t, s).Used+uint64(n) > s.Capacity()-64<<10 {
				break
			}
			put(t, s, key, bytes.Repeat([]byte{byte(i) | 1}, n))
			require.NoError(t, s.Pin([]byte(key), true))
			neighbours = append(neighbours, key)
		}
		for i, key := range neighbours {
			if i%4 != 0 {
				require.NoError(t, s.Remove([]byte(key)))
			}
		}
		require.Greater(t, len(neighbours), 40)
		for range 60 {
			i := r.IntN(24)
			requirePattern(t, s, name(i), uint64(i), sizes[name(i)])
			for i := 0; i < len(neighbours); i += 4 {
				v := get(t, s, neighbours[i])
				require.Equal(t, int(v.Size()), bytes.Count(v.Bytes(), []byte{byte(i) | 1}), "behind or before what was read")
				v.Release()
			}
		}
		require.False(t, inMemory(s, name(0)))
	}
}

// An object is replaced while it is made persistent, and the power goes at any moment: what is found is a version that was
// put, none older than the last that was persistent before and was not replaced since, and at rest exactly that.
func TestPersistOfWhatIsReplaced(t *testing.T) {
	for _, d := range []tier.Durability{tier.Batch, tier.Each, tier.None} {
		dir, o := onLayer()
		o.Disk.Durability = d
		s := open(t, o)
		const size = 40 << 10
		key := []byte("a")
		versioned := func(version uint64) []byte {
			b := pattern(version, size)
			binary.LittleEndian.PutUint64(b, version)
			return b
		}
		var latest, persistent atomic.Uint64 // versions
		replace := func() {
			next := latest.Load() + 1
			_, err := s.Put(key, versioned(next), PutOptions{})
			assertNoError(t, err)
			latest.Store(next)
		}
		// version is what a directory has after a loss of power, 0 for nothing.
		version := func(seed uint64) (found uint64) {
			after := o
			after.Disk.FS = dir.Crash(seed)
			f, err := Open(after)
			require.NoError(t, err)
			defer func() { require.NoError(t, f.Close(true)) }()
			v, err := f.Get(key)
			if errors.Is(err, ErrNotFound) {
				return 0
			}
			require.NoError(t, err)
			defer v.Release()
			found = binary.LittleEndian.Uint64(v.Bytes())
			require.True(t, found <= latest.Load()+1 && bytes.Equal(versioned(found), v.Bytes()), "bytes of version %d", found)
			return found
		}
		replace()
		var stop atomic.Bool
		var workers sync.WaitGroup
		workers.Go(func() {
			for !stop.Load() {
				replace()
			}
		})
		for range 2 {
			workers.Go(func() {
				for !stop.Load() {
					assertNoError(t, s.Persist(key))
				}
			})
		}
		for seed := range uint64(15) {
			before := persistent.Load()
			if found := version(seed); found != 0 {
				require.GreaterOrEqual(t, found, before)
			}
		}
		stop.Store(true)
		workers.Wait()
		for seed := range uint64(10) {
			replace()
			require.NoError(t, s.Persist(key))
			persistent.Store(latest.Load())
			require.Equal(t, latest.Load(), version(seed), "%v", d)
		}
		require.NoError(t, s.Close(true))
	}
}
