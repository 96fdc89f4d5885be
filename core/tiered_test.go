package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/tier"
	"moorage/core/tier/blockio"
	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
	"moorage/core/tier/timing"
)

const diskRoom = 64 << 20

// onDir gives the options of a store whose disk is a directory of the test.
func onDir(dir string) Options {
	return Options{Capacity: 4 << 20, Disk: DiskOptions{Options: tier.Options{Dir: dir, Capacity: diskRoom}}}
}

// onLayer gives the same over a directory in memory that can fail.
func onLayer() (*faulty.Dir, Options) {
	dir := faulty.New()
	o := onDir("")
	o.Disk.FS = dir
	return dir, o
}

// pattern is what an object with this number holds.
func pattern(number uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewPCG(number, 1)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func requirePattern(t testing.TB, s *Store, key string, number uint64, n int) {
	t.Helper()
	v := get(t, s, key)
	defer v.Release()
	require.True(t, bytes.Equal(pattern(number, n), v.Bytes()), "bytes of %s", key)
}

// toDisk takes everything out of memory that may go.
func toDisk(t testing.TB, s *Store) {
	t.Helper()
	require.NoError(t, s.Flush())
	for {
		more, err := s.makeRoom(s.Capacity())
		require.NoError(t, err)
		if !more {
			return
		}
		s.drain()
	}
}

func inMemory(s *Store, key string) bool { return s.inMemory(s.at([]byte(key)), []byte(key)) }

func TestAFullMemoryGoesToDisk(t *testing.T) {
	for _, e := range []Eviction{EvictNone, EvictS3FIFO} {
		o := onDir(t.TempDir())
		o.Eviction = e
		s := open(t, o)
		const n, size = 200, 96 << 10 // 19 MB in a memory of 4
		for i := range uint64(n) {
			put(t, s, fmt.Sprint("key ", i), pattern(i, size))
		}
		objects, _, err := s.Count()
		require.NoError(t, err)
		require.EqualValues(t, n, objects, "nothing is lost")
		for i := range uint64(n) {
			requirePattern(t, s, fmt.Sprint("key ", i), i, size)
		}
		st, err := s.DiskStats()
		require.NoError(t, err)
		require.Positive(t, st.Demotions)
		require.Positive(t, st.Promotions)
		require.Zero(t, stats(t, s).CopiedIn-n*size, "only the puts have copied")
		if _, err := s.Clear(); err != nil {
			t.Fatal(err)
		}
		requireEmpty(t, s)
	}
}

func TestPersistentObjectsAreFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, onDir(dir))
	put(t, s, "bytes", pattern(1, 100<<10))
	src := Item{Key: []byte("tensor"), Parts: []Part{stay(pattern(2, 64))}}
	require.NoError(t, s.PutSet([]Item{src}, PutOptions{Meta: []byte("meta")}, nil))
	put(t, s, "forgotten", pattern(3, 1000))
	last := stats(t, s).LastSeq
	errs, err := s.PersistEach(3, func(i int) []byte { return []byte([]string{"bytes", "tensor", "nobody"}[i]) })
	require.NoError(t, err)
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])
	require.ErrorIs(t, errs[2], ErrNotFound)
	require.NoError(t, s.Close(true))

	s = open(t, onDir(dir)) // the directory is free as soon as Close has returned
	require.EqualValues(t, 2, s.Recovered().Objects)
	requirePattern(t, s, "bytes", 1, 100<<10)
	v := get(t, s, "tensor")
	require.Equal(t, "meta", string(v.Meta()))
	require.True(t, bytes.Equal(pattern(2, 64), v.Bytes()))
	v.Release()
	_, err = s.Get([]byte("forgotten"))
	require.ErrorIs(t, err, ErrNotFound)
	require.Greater(t, put(t, s, "next", nil).Seq, last-1, "numbers go on")
}

func TestADirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	open(t, onDir(dir))
	_, err := Open(onDir(dir))
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorContains(t, err, dir)
}

// Whatever is asked of an object that only the disk has is answered as if memory had it.
func TestNamesOnDisk(t *testing.T) {
	for _, promote := range []Promote{PromoteAlways, PromoteSecondHit, PromoteNever} {
		o := onDir(t.TempDir())
		o.Disk.Promote = promote
		s := open(t, o)
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			put(t, s, key, []byte("old "+key))
		}
		seq := put(t, s, "a", []byte("new a")).Seq
		toDisk(t, s)
		for _, key := range []string{"a", "b"} {
			require.False(t, inMemory(s, key))
			found, err := s.Exists([]byte(key))
			require.NoError(t, err)
			require.True(t, found)
		}
		d, err := s.Describe([]byte("a"))
		require.NoError(t, err)
		require.Equal(t, Description{Size: 5, Seq: seq, OnDisk: true, Meta: d.Meta, Shape: d.Shape}, d)

		r, err := s.Put([]byte("a"), []byte("x"), PutOptions{IfExists: Keep})
		require.NoError(t, err)
		require.Equal(t, PutResult{seq, Kept}, r)
		_, err = s.Put([]byte("a"), []byte("x"), PutOptions{IfExists: Raise})
		require.ErrorIs(t, err, ErrExists)
		requireBytes(t, s, "a", "new a")

		put(t, s, "b", []byte("newer b"))
		requireBytes(t, s, "b", "newer b")
		require.NoError(t, s.Remove([]byte("c")))
		require.ErrorIs(t, s.Remove([]byte("c")), ErrNotFound)
		_, err = s.Get([]byte("c"))
		require.ErrorIs(t, err, ErrNotFound)

		v, err := s.Take([]byte("d"))
		require.NoError(t, err)
		require.Equal(t, "old d", string(v.Bytes()))
		v.Release()
		_, err = s.Get([]byte("d"))
		require.ErrorIs(t, err, ErrNotFound)

		require.NoError(t, s.Pin([]byte("e"), true))
		toDisk(t, s)
		require.True(t, inMemory(s, "e"), "what is pinned stays")
		require.False(t, inMemory(s, "b"))
		require.NoError(t, s.Pin([]byte("e"), false))

		views, err := s.Snapshot([][]byte{[]byte("a"), []byte("b"), []byte("e")})
		require.NoError(t, err)
		require.Equal(t, "newer b", string(views[1].Bytes()))
		releaseAll(views)
		toDisk(t, s)
		views, err = s.SnapshotPrefix(nil)
		require.NoError(t, err)
		got := map[string]string{}
		for _, v := range views {
			got[string(v.Key())] = string(v.Bytes())
		}
		require.Len(t, views, len(got), "no name comes twice")
		require.Equal(t, map[string]string{"a": "new a", "b": "newer b", "e": "old e", "f": "old f"}, got)
		releaseAll(views)

		toDisk(t, s)
		var keys []string
		for cursor := uint64(0); cursor != ListEnd; {
			cursor, err = s.List(nil, cursor, func(group [][]byte) bool {
				for _, key := range group {
					keys = append(keys, string(key))
				}
				return true
			})
			require.NoError(t, err)
		}
		require.ElementsMatch(t, []string{"a", "b", "e", "f"}, keys)
		require.NoError(t, s.Wait([][]byte{[]byte("a"), []byte("f")}, 0))
		n, err := s.Clear()
		require.NoError(t, err)
		require.EqualValues(t, 4, n)
		objects, _, err := s.Count()
		require.NoError(t, err)
		require.Zero(t, objects)
		requireEmpty(t, s)
	}
}

func TestPromote(t *testing.T) {
	for promote, want := range map[Promote][]bool{
		PromoteAlways: {true, true}, PromoteSecondHit: {false, true}, PromoteNever: {false, false},
	} {
		o := onDir(t.TempDir())
		o.Disk.Promote = promote
		s := open(t, o)
		put(t, s, "a", pattern(1, 50<<10))
		toDisk(t, s)
		for _, resident := range want {
			v := get(t, s, "a")
			require.True(t, bytes.Equal(pattern(1, 50<<10), v.Bytes()))
			_, ours := s.arena.Contains(v.Addr())
			require.True(t, ours, "the view lies in the region")
			v.Release()
			require.Equal(t, resident, inMemory(s, "a"))
		}
		require.Zero(t, stats(t, s).CopiedOut, "no copy")
	}
}

// A set that is replaced while parts of it are on disk, or on their way there, is seen whole or not at all.
func TestSetsOnDisk(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	k := inShards(8)
	publish := func(generation uint64) {
		var items []Item
		for i, key := range k {
			items = append(items, item(key, pattern(generation*100+uint64(i), 64<<10)))
		}
		require.NoError(t, s.PutSet(items, PutOptions{}, nil))
	}
	publish(0)
	keys := make([][]byte, len(k))
	for i := range k {
		keys[i] = []byte(k[i])
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !stop.Load() {
				views, err := s.Snapshot(keys)
				if !assertNoError(t, err) {
					return
				}
				generation := -1
				for i := range views {
					g := -1
					for try := 40; try >= 0 && g < 0; try-- {
						if bytes.Equal(views[i].Bytes()[:64], pattern(uint64(try*100+i), 64)) {
							g = try
						}
					}
					if generation == -1 {
						generation = g
					}
					if g < 0 || g != generation {
						t.Errorf("generation %d beside %d", g, generation)
					}
				}
				releaseAll(views)
			}
		})
	}
	readers.Go(func() {
		for !stop.Load() {
			_, _ = s.makeRoom(1 << 20)
			s.drain()
		}
	})
	for generation := range uint64(40) {
		publish(generation)
	}
	stop.Store(true)
	readers.Wait()
}

func assertNoError(t testing.TB, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// watched is a directory that tells when its files are read, or synced, and its segments written.
type watched struct {
	file.Dir
	read, write, sync func()
}

func (d *watched) Open(name string, how file.How) (file.File, error) {
	f, err := d.Dir.Open(name, how)
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, d, strings.HasPrefix(name, "segment")}, nil
}

type watchedFile struct {
	file.File
	dir     *watched
	segment bool
}

func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	if f.dir.read != nil {
		f.dir.read()
	}
	return f.File.ReadAt(p, off)
}

func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	if f.dir.write != nil && f.segment {
		f.dir.write()
	}
	return f.File.WriteAt(p, off)
}

func (f *watchedFile) Sync() error {
	if f.dir.sync != nil {
		f.dir.sync()
	}
	return f.File.Sync()
}

// A read that many want is done once, and each of them has a view of its own.
func TestReadsAreShared(t *testing.T) {
	dir, o := onLayer()
	o.Disk.Promote = PromoteNever
	watch := &watched{Dir: dir}
	o.Disk.FS = watch
	s := open(t, o)
	put(t, s, "a", pattern(1, 1<<20))
	toDisk(t, s)
	const readers = 5
	all := &s.tiered.flights
	waiting := func() (n int) {
		all.mu.Lock()
		defer all.mu.Unlock()
		for _, f := range all.all {
			n += f.waiting
		}
		return n
	}
	var reads atomic.Int64
	watch.read = func() {
		reads.Add(1)
		for waiting() < readers-1 {
			time.Sleep(time.Millisecond)
		}
	}
	var got sync.WaitGroup
	views := make([]View, readers)
	for i := range views {
		got.Go(func() {
			var err error
			views[i], err = s.Get([]byte("a"))
			assertNoError(t, err)
		})
	}
	got.Wait()
	for i := range views {
		require.EqualValues(t, readers-i, views[i].c.Views())
		require.True(t, bytes.Equal(pattern(1, 1<<20), views[i].Bytes()))
		views[i].Release()
	}
	require.EqualValues(t, 1, reads.Load(), "chunks")
	st, err := s.DiskStats()
	require.NoError(t, err)
	require.EqualValues(t, readers-1, st.SharedReads)
	shared := 0
	for _, r := range s.Timings().Recent(readers) {
		require.Equal(t, r.Total(), r.Host()+r.Device())
		require.True(t, r.Consistent(), "%+v", r)
		if r.Shared {
			shared++
		}
	}
	require.Equal(t, readers-1, shared)
}

// An object that is removed while it is being read is handed out to who asked before, and does not come back.
func TestARemovalOvertakesARead(t *testing.T) {
	dir, o := onLayer()
	watch := &watched{Dir: dir}
	o.Disk.FS = watch
	s := open(t, o)
	put(t, s, "a", pattern(1, 100<<10))
	toDisk(t, s)
	var once sync.Once
	watch.read = func() {
		once.Do(func() { assertNoError(t, s.Remove([]byte("a"))) })
	}
	requirePattern(t, s, "a", 1, 100<<10)
	found, err := s.Exists([]byte("a"))
	require.NoError(t, err)
	require.False(t, found)
	require.False(t, inMemory(s, "a"))
	requireEmpty(t, s)
}

// An object that is removed before it is written does not get to disk.
func TestARemovalOvertakesAWrite(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	put(t, s, "a", pattern(1, 100<<10))
	v := get(t, s, "a")
	require.NoError(t, s.Remove([]byte("a")))
	require.NoError(t, s.writeOutTimed("demote", timing.Demote, timing.Background, v))
	require.False(t, s.onDisk([]byte("a")))
	put(t, s, "a", pattern(2, 100<<10))
	require.NoError(t, s.writeOutTimed("demote", timing.Demote, timing.Background, v))
	require.False(t, s.onDisk([]byte("a")))
	v.Release()
	requirePattern(t, s, "a", 2, 100<<10)
}

func TestAReplacedObjectLeavesTheDisk(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	put(t, s, "a", pattern(1, 100<<10))
	put(t, s, "b", pattern(1, 100<<10))
	toDisk(t, s)
	put(t, s, "a", pattern(2, 100<<10))
	require.NoError(t, s.PutSet([]Item{item("b", []byte("new"))}, PutOptions{}, nil))
	require.False(t, s.onDisk([]byte("a")))
	require.False(t, s.onDisk([]byte("b")))
	requirePattern(t, s, "a", 2, 100<<10)
}

// get_into goes straight to the caller's memory, and never beyond it.
func TestReadInto(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	const size = 300<<10 + 123
	put(t, s, "a", pattern(1, size))
	want := pattern(1, size)
	buffer := make([]byte, size+64<<10)
	_, done, err := s.ReadInto([]byte("a"), 0, All, addressOf(buffer), uint64(len(buffer)))
	require.NoError(t, err)
	require.False(t, done, "memory has it")
	toDisk(t, s)
	r := seeded(t)
	for range 200 {
		off := uint64(r.IntN(size))
		n := uint64(r.IntN(size - int(off) + 1))
		if r.IntN(3) == 0 {
			off, n = off&^4095, n&^4095
		}
		at := r.IntN(8192)
		if r.IntN(2) == 0 {
			at = 4096 - int(addressOf(buffer)&4095) // aligned
		}
		for i := range buffer {
			buffer[i] = 0xa5
		}
		copied, done, err := s.ReadInto([]byte("a"), off, n, addressOf(buffer)+uintptr(at), n)
		require.NoError(t, err)
		require.True(t, done)
		require.Equal(t, n, copied)
		require.True(t, bytes.Equal(want[off:off+n], buffer[at:at+int(n)]), "%d bytes at %d to %d", n, off, at)
		require.Equal(t, len(buffer)-int(n), bytes.Count(buffer[:at], []byte{0xa5})+bytes.Count(buffer[at+int(n):], []byte{0xa5}), "guards")
	}
	require.False(t, inMemory(s, "a"))
	for _, wrong := range [][3]uint64{{size + 1, All, size}, {0, size + 1, 2 * size}, {0, All, size - 1}} {
		_, done, err := s.ReadInto([]byte("a"), wrong[0], wrong[1], addressOf(buffer), wrong[2])
		require.NoError(t, err)
		require.False(t, done)
	}
	_, done, err = s.ReadInto([]byte("b"), 0, All, addressOf(buffer), 10)
	require.NoError(t, err)
	require.False(t, done)
}

// What the disk refuses stays in memory, and the put that needed room says why.
func TestADiskThatFails(t *testing.T) {
	dir, o := onLayer()
	s := open(t, o)
	const size = 256 << 10
	put(t, s, "on disk", pattern(7, size))
	toDisk(t, s)
	dir.Inject(faulty.Rule{Op: faulty.Write, Err: syscall.EIO})
	dir.Inject(faulty.Rule{Op: faulty.Read, Err: syscall.EIO})
	var err error
	stored := uint64(0)
	for ; err == nil; stored++ {
		_, err = s.Put(fmt.Append(nil, "key ", stored), pattern(stored, size), PutOptions{})
	}
	stored--
	require.ErrorIs(t, err, ErrCapacity)
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, syscall.EIO)
	for i := range stored {
		requirePattern(t, s, fmt.Sprint("key ", i), i, size)
	}
	require.NoError(t, s.Remove([]byte("key 0"))) // room to read into
	_, err = s.Get([]byte("on disk"))
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, syscall.EIO)
	found := false
	for _, r := range s.Timings().Recent(0) {
		if r.Class == timing.Failed {
			found = true
			require.Positive(t, r.Total(), "a failure takes time, too")
		}
	}
	require.True(t, found)
	dir.Heal()
	requirePattern(t, s, "on disk", 7, size)
	put(t, s, "more", pattern(9, size))
	for i := uint64(1); i < stored; i++ {
		requirePattern(t, s, fmt.Sprint("key ", i), i, size)
	}
}

func TestADamagedObject(t *testing.T) {
	dir, o := onLayer()
	s := open(t, o)
	put(t, s, "a", bytes.Repeat([]byte("moorage!"), 8<<10))
	require.NoError(t, s.Flush())
	toDisk(t, s)
	flipped := false
	names, err := dir.Names()
	require.NoError(t, err)
	for _, name := range names {
		if at := bytes.Index(dir.Bytes(name), []byte("moorage!moorage!")); at >= 0 {
			dir.Flip(name, int64(at)*8+3)
			flipped = true
		}
	}
	require.True(t, flipped)
	_, err = s.Get([]byte("a"))
	require.ErrorIs(t, err, ErrDamaged)
	st, err := s.DiskStats()
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Damaged)
	put(t, s, "a", []byte("again"))
	requireBytes(t, s, "a", "again")
}

func TestAFullDisk(t *testing.T) {
	for _, e := range []Eviction{EvictNone, EvictS3FIFO} {
		o := onDir(t.TempDir())
		o.Eviction = e
		o.Disk.Capacity = 16 << 20
		s := open(t, o)
		const size = 256 << 10
		var err error
		n := uint64(0)
		for ; err == nil && n < 200; n++ {
			_, err = s.Put(fmt.Append(nil, "key ", n), pattern(n, size), PutOptions{})
		}
		if e == EvictNone {
			require.ErrorIs(t, err, ErrCapacity)
			require.ErrorContains(t, err, "disk")
			require.GreaterOrEqual(t, (n-1)*size, uint64(16<<20)*9/10, "90 %% of the disk, and memory")
			for i := range n - 1 {
				requirePattern(t, s, fmt.Sprint("key ", i), i, size)
			}
			require.NoError(t, s.Remove(fmt.Append(nil, "key ", n-2)))
			put(t, s, "in its place", pattern(n, size))
			requirePattern(t, s, "key 0", 0, size)
			requirePattern(t, s, "in its place", n, size)
			_, err = s.Clear()
			require.NoError(t, err)
			require.Zero(t, s.tiered.promises.bytes)
			require.Empty(t, s.tiered.promises.of)
			continue
		}
		require.NoError(t, err)
		st, err := s.DiskStats()
		require.NoError(t, err)
		require.Positive(t, st.Evicted)
		there := 0
		for i := range n {
			if found, _ := s.Exists(fmt.Append(nil, "key ", i)); found {
				requirePattern(t, s, fmt.Sprint("key ", i), i, size)
				there++
			}
		}
		require.Greater(t, there, 40)
	}
}

// What is on disk can be read even when nothing more can be put: memory never holds what the disk would have no room for.
func TestAStoreThatIsFullCanBeRead(t *testing.T) {
	o := onDir(t.TempDir())
	o.Disk.Capacity = 6 << 20
	s := open(t, o)
	const size = 3 << 20
	put(t, s, "a", pattern(1, size))
	put(t, s, "b", pattern(2, size))
	_, err := s.Put([]byte("c"), pattern(3, size), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity)
	require.ErrorContains(t, err, "disk_capacity")
	requirePattern(t, s, "a", 1, size)
	requirePattern(t, s, "b", 2, size)
	require.NoError(t, s.Remove([]byte("a")))
	put(t, s, "c", pattern(3, size))
	requirePattern(t, s, "b", 2, size)
	requirePattern(t, s, "c", 3, size)

	o = onDir(t.TempDir())
	o.Disk.Capacity = 3 << 20
	s = open(t, o)
	put(t, s, "a", pattern(1, 2<<20))
	_, err = s.Put([]byte("b"), pattern(2, 2<<20), PutOptions{})
	require.ErrorIs(t, err, ErrCapacity, "memory has room, but the disk would not have it for both")
	put(t, s, "b", pattern(2, 1<<20))
}

func TestWriteThrough(t *testing.T) {
	dir, o := onLayer()
	o.Disk.WriteThrough = true
	o.Disk.Durability = tier.Each
	s := open(t, o)
	put(t, s, "a", []byte("a"))
	require.NoError(t, s.PutSet([]Item{item("b", []byte("b"))}, PutOptions{}, nil))
	after := o
	after.Disk.FS = dir.Crash(1)
	found, err := Open(after)
	require.NoError(t, err)
	requireBytes(t, found, "a", "a")
	requireBytes(t, found, "b", "b")
	require.NoError(t, found.Close(true))

	put(t, s, "a", []byte("newer"))
	require.NoError(t, s.PutSet([]Item{item("b", []byte("newer"))}, PutOptions{}, nil))
	for seed := range uint64(20) { // what was replaced does not come back
		after.Disk.FS = dir.Crash(seed)
		found, err := Open(after)
		require.NoError(t, err)
		requireBytes(t, found, "a", "newer")
		requireBytes(t, found, "b", "newer")
		require.NoError(t, found.Close(true))
	}

	dir.Inject(faulty.Rule{Op: faulty.Write, Err: syscall.EIO})
	_, err = s.Put([]byte("c"), []byte("c"), PutOptions{})
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorContains(t, err, "in memory")
	requireBytes(t, s, "c", "c")
}

// With durability each, what was removed does not come back.
func TestARemovalIsDurable(t *testing.T) {
	dir, o := onLayer()
	o.Disk.Durability = tier.Each
	s := open(t, o)
	put(t, s, "a", []byte("a"))
	toDisk(t, s)
	require.NoError(t, s.Remove([]byte("a")))
	for seed := range uint64(20) {
		after := o
		after.Disk.FS = dir.Crash(seed)
		found, err := Open(after)
		require.NoError(t, err)
		_, err = found.Get([]byte("a"))
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, found.Close(true))
	}
}

// Closing ends reads and writes that are under way; the directory is free when it returns.
func TestCloseDuringIO(t *testing.T) {
	dir := t.TempDir()
	for round := range 10 {
		s, err := Open(onDir(dir))
		require.NoError(t, err)
		for i := range uint64(30) {
			put(t, s, fmt.Sprint("key ", i), pattern(i, 256<<10))
		}
		var workers sync.WaitGroup
		for w := range uint64(4) {
			workers.Go(func() {
				for i := w; ; i++ {
					v, err := s.Get(fmt.Append(nil, "key ", i%30))
					if err != nil {
						if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrCancelled) {
							t.Error(err)
						}
						return
					}
					if !bytes.Equal(v.Bytes()[:64], pattern(i%30, 64)) {
						t.Error("other bytes")
					}
					v.Release()
				}
			})
		}
		time.Sleep(time.Duration(round) * time.Millisecond)
		require.NoError(t, s.Close(round%2 == 0))
		workers.Wait()
		require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	}
}

// Many threads put, get, remove, take, pin and persist few names in a memory that is far too small. What a get brings is
// never older than what was there when it began, and never anything else.
func TestTieredHammer(t *testing.T) {
	const names, size, threads = 24, 40 << 10, 6
	for _, c := range []struct {
		promote Promote
		evict   Eviction
		path    blockio.Path
	}{{PromoteAlways, EvictNone, 0}, {PromoteSecondHit, EvictS3FIFO, 0}, {PromoteNever, EvictNone, blockio.Direct}} {
		o := onDir(t.TempDir())
		o.Capacity, o.Eviction, o.Disk.Promote = 1<<20, c.evict, c.promote
		o.Disk.Engine.MaxPath = c.path
		s := open(t, o)
		type state struct {
			mu        sync.Mutex
			committed atomic.Uint64 // version; even: there, odd: removed
		}
		var all [names]state
		key := func(i int) []byte { return fmt.Append(nil, "name ", i) }
		var stop atomic.Bool
		var workers sync.WaitGroup
		seeds := seeded(t)
		for range threads {
			r := rand.New(rand.NewPCG(seeds.Uint64(), 0))
			workers.Go(func() {
				for !stop.Load() {
					i := r.IntN(names)
					x := &all[i]
					switch op := r.IntN(10); op {
					case 0, 1: // replace
						x.mu.Lock()
						next := x.committed.Load()&^1 + 2
						data := pattern(uint64(i)<<32|next, size+i)
						binary.LittleEndian.PutUint64(data, next)
						if _, err := s.Put(key(i), data, PutOptions{}); err == nil {
							x.committed.Store(next)
						} else if !errors.Is(err, ErrCapacity) {
							t.Error(err)
						}
						x.mu.Unlock()
					case 2: // remove, or take
						x.mu.Lock()
						var err error
						if r.IntN(2) == 0 {
							err = s.Remove(key(i))
						} else {
							var v View
							if v, err = s.Take(key(i)); err == nil {
								v.Release()
							}
						}
						if err == nil {
							x.committed.Store(x.committed.Load() | 1)
						} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrCapacity) {
							t.Error(err)
						}
						x.mu.Unlock()
					case 3:
						errs, err := s.PersistEach(1, func(int) []byte { return key(i) })
						if err != nil || errs[0] != nil && !errors.Is(errs[0], ErrNotFound) {
							t.Error(err, errs)
						}
					default:
						before := x.committed.Load()
						v, err := s.Get(key(i))
						after := x.committed.Load()
						switch {
						case errors.Is(err, ErrNotFound):
							if before == after && before != 0 && before&1 == 0 && c.evict == EvictNone && x.mu.TryLock() {
								if x.committed.Load() == before {
									if found, _ := s.Exists(key(i)); !found {
										t.Errorf("%s at version %d is lost", key(i), before)
									}
								}
								x.mu.Unlock()
							}
						case errors.Is(err, ErrCapacity):
						case err != nil:
							t.Error(err)
						default:
							data := v.Bytes()
							version := binary.LittleEndian.Uint64(data)
							want := pattern(uint64(i)<<32|version, size+i)
							if version < before&^1 || !bytes.Equal(want[8:], data[8:]) {
								t.Errorf("%s: version %d after %d, or other bytes", key(i), version, before)
							}
							v.Release()
						}
					}
				}
			})
		}
		time.Sleep(time.Second)
		stop.Store(true)
		workers.Wait()
		_, err := s.Clear()
		require.NoError(t, err)
		requireEmpty(t, s)
	}
}

// What is submitted waits for the disk, and nobody else does.
func TestJobsOfADisk(t *testing.T) {
	o := onDir(t.TempDir())
	o.Disk.Promote = PromoteNever
	s := open(t, o)
	const n, size = 12, 128 << 10
	var keys []string
	for i := range uint64(n) {
		keys = append(keys, fmt.Sprint("key ", i))
		put(t, s, keys[i], pattern(i, size))
	}
	q := openQueue(t)
	for i, r := range results(t, submit(t, s, q, JobRequest{Kind: JobPersist, Keys: keyList(append(keys, "none")...)})) {
		if i == n {
			require.ErrorIs(t, r.Err, ErrNotFound)
		} else {
			require.NoError(t, r.Err)
		}
	}
	toDisk(t, s)
	for _, r := range results(t, submit(t, s, q, JobRequest{Kind: JobPrefetch, Keys: keyList(keys[:4]...)})) {
		require.NoError(t, r.Err)
	}
	for i, key := range keys {
		require.Equal(t, i < 4, inMemory(s, key), key)
	}
	buffers := make([][]byte, n)
	request := JobRequest{Kind: JobGetInto, Keys: keyList(keys...)}
	for i := range buffers {
		buffers[i] = make([]byte, size)
		request.Into = append(request.Into, Into{Bytes: All, Spans: []Span{{addressOf(buffers[i]), size}}})
	}
	for _, r := range results(t, submit(t, s, q, request)) {
		require.NoError(t, r.Err)
		require.EqualValues(t, size, r.Value)
	}
	for i := range buffers {
		require.True(t, bytes.Equal(pattern(uint64(i), size), buffers[i]))
	}
	require.False(t, inMemory(s, keys[5]))
	st, err := s.DiskStats()
	require.NoError(t, err)
	require.Zero(t, st.Bounced%4096)
}

// A listing misses nobody who moves between memory and disk meanwhile.
func TestListWhileKeysMove(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	const n = 400
	for i := range uint64(n) {
		put(t, s, fmt.Sprint("key ", i), pattern(i, 16<<10)) // more than memory holds
	}
	var stop atomic.Bool
	var movers sync.WaitGroup
	for w := range 2 {
		r := rand.New(rand.NewPCG(uint64(w), 1))
		movers.Go(func() {
			for !stop.Load() {
				v, err := s.Get(fmt.Append(nil, "key ", r.IntN(n)))
				if assertNoError(t, err) {
					v.Release()
				}
			}
		})
	}
	for range 20 {
		seen := map[string]int{}
		for cursor := uint64(0); cursor != ListEnd; {
			var err error
			cursor, err = s.List([]byte("key "), cursor, func(group [][]byte) bool {
				for _, key := range group {
					seen[string(key)]++
				}
				return true
			})
			require.NoError(t, err)
		}
		assert.Equal(t, n, len(seen))
	}
	stop.Store(true)
	movers.Wait()
	toDisk(t, s)
	seen := 0
	for cursor := uint64(0); cursor != ListEnd; {
		cursor, _ = s.List(nil, cursor, func(group [][]byte) bool { seen += len(group); return true })
	}
	require.Equal(t, n, seen, "nobody moves, and nobody comes twice")
}

// What is read while a store is cleared does not come through it.
func TestClearWhileKeysMove(t *testing.T) {
	for round := range uint64(10) {
		s := open(t, onDir(t.TempDir()))
		const n = 300
		for i := range uint64(n) {
			put(t, s, fmt.Sprint("key ", i), pattern(i, 16<<10))
		}
		var stop atomic.Bool
		var movers sync.WaitGroup
		movers.Go(func() {
			for r := rand.New(rand.NewPCG(round, 2)); !stop.Load(); {
				v, err := s.Get(fmt.Append(nil, "key ", r.IntN(n)))
				if err == nil {
					v.Release()
				} else if !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
		removed, err := s.Clear()
		stop.Store(true)
		movers.Wait()
		require.NoError(t, err)
		require.EqualValues(t, n, removed)
		objects, _, err := s.Count()
		require.NoError(t, err)
		require.Zero(t, objects)
		requireEmpty(t, s)
	}
}

// A store without a disk is as before.
func TestNoDisk(t *testing.T) {
	s := open(t, Options{})
	_, err := s.PersistEach(0, nil)
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorIs(t, s.Flush(), ErrUnsupported)
	_, err = s.DiskStats()
	require.ErrorIs(t, err, ErrUnsupported)
	require.Nil(t, s.Timings())
	_, done, err := s.ReadInto([]byte("a"), 0, All, 0, 0)
	require.NoError(t, err)
	require.False(t, done)
	_ = index.Shards
}
