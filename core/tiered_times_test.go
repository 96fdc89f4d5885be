package core

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tier"
	"moorage/core/tier/file/faulty"
	"moorage/core/tier/timing"
)

// recordsSince are the records behind a number.
func recordsSince(t testing.TB, s *Store, sequence uint64, kind timing.Kind) (found []timing.Record) {
	t.Helper()
	for _, r := range s.Timings().Recent(0) {
		if r.Sequence <= sequence || r.Kind != kind {
			continue
		}
		require.Equal(t, r.Total(), r.Host()+r.Device())
		require.True(t, r.Consistent(), "%v %+v", kind, r)
		found = append(found, r)
	}
	return found
}

func lastSequence(s *Store) uint64 {
	if all := s.Timings().Recent(1); len(all) > 0 {
		return all[0].Sequence
	}
	return 0
}

// Each key of a job has one record, of the job's kind, that begins when the job was submitted; the wait for its turn stands
// in it by itself.
func TestKeysOfJobsHaveTheirWaitInTheirRecords(t *testing.T) {
	dir, o := onLayer()
	o.Jobs.Workers = 1
	o.Disk.Promote = PromoteNever
	watch := &watched{Dir: dir, read: func() { time.Sleep(time.Millisecond) }}
	o.Disk.FS = watch
	s := open(t, o)
	q := openQueue(t)
	const n, size = 6, 64 << 10
	keys, buffers := make([]string, n), make([][]byte, n)
	into := make([]Into, n)
	var items []Item
	for i := range n {
		keys[i], buffers[i] = fmt.Sprint("key ", i), make([]byte, size)
		items = append(items, item(keys[i], pattern(uint64(i), size)))
		into[i] = Into{Bytes: All, Spans: []Span{spanOf(buffers[i])}}
	}
	for _, step := range []struct {
		kind    timing.Kind
		request JobRequest
		onDisk  bool
		device  bool
	}{
		{kind: timing.Put, request: JobRequest{Kind: JobPut, Items: items}},
		{kind: timing.Put, request: JobRequest{Kind: JobPut, Items: items, Atomic: true}},
		{kind: timing.Persist, request: JobRequest{Kind: JobPersist}, device: true},
		{kind: timing.Get, request: JobRequest{Kind: JobGet}},
		{kind: timing.Get, request: JobRequest{Kind: JobGet}, onDisk: true, device: true},
		{kind: timing.GetInto, request: JobRequest{Kind: JobGetInto, Into: into}, onDisk: true, device: true},
		{kind: timing.Prefetch, request: JobRequest{Kind: JobPrefetch}, onDisk: true, device: true},
		{kind: timing.Prefetch, request: JobRequest{Kind: JobPrefetch}},
		{kind: timing.GetInto, request: JobRequest{Kind: JobGetInto, Into: into}},
		{kind: timing.Exists, request: JobRequest{Kind: JobExists}},
		{kind: timing.Remove, request: JobRequest{Kind: JobRemove}},
	} {
		if step.onDisk {
			toDisk(t, s)
		}
		if step.request.Kind != JobPut {
			step.request.Keys = keyList(keys...)
		}
		before, began := lastSequence(s), timing.Now()
		j := submit(t, s, q, step.request)
		all := results(t, j)
		found := recordsSince(t, s, before, step.kind)
		require.Len(t, found, n, "%v: one record a key", step.kind)
		for i, r := range found {
			require.NoError(t, all[i].Err)
			require.Equal(t, found[0].T0, r.T0, "all were submitted at one time")
			require.GreaterOrEqual(t, r.T0, began)
			require.Equal(t, timing.OK, r.Class)
			require.Equal(t, step.device, r.Device() > 0, "%v %+v", step.kind, r)
			require.GreaterOrEqual(t, r.QueueWait, int64(all[i].Wait), "the wait of its result")
			require.LessOrEqual(t, r.QueueWait+r.Device(), r.Total())
			if i > 0 && step.device {
				require.GreaterOrEqual(t, r.QueueWait, found[i-1].Total(), "%v: one works, one key after the other", step.kind)
			}
		}
		j.Close()
	}
	requireEmpty(t, s)
}

// What was not begun when a job was cancelled has a record, too, of what it waited; it is in no distribution.
func TestCancelledKeysHaveRecords(t *testing.T) {
	dir, o := onLayer()
	o.Jobs.Workers = 1
	watch := &watched{Dir: dir}
	o.Disk.FS = watch
	s := open(t, o)
	q := openQueue(t)
	const n = 5
	var keys []string
	for i := range uint64(n) {
		keys = append(keys, fmt.Sprint("key ", i))
		put(t, s, keys[i], pattern(i, 64<<10))
	}
	toDisk(t, s)
	started, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	watch.read = func() { once.Do(func() { close(started); <-goOn }) }
	j := submit(t, s, q, JobRequest{Kind: JobPrefetch, Keys: keyList(keys...)})
	<-started
	j.Cancel()
	close(goOn)
	await(t, j)
	cancelled := 0
	for _, r := range recordsSince(t, s, 0, timing.Prefetch) {
		if r.Class == timing.Cancelled {
			cancelled++
			require.Positive(t, r.QueueWait)
			require.Zero(t, r.Device())
		}
	}
	require.Equal(t, n-1, cancelled)
	for _, one := range s.Timings().Snapshot().Kinds {
		if one.Kind == timing.Prefetch {
			require.EqualValues(t, 1, one.Count)
			require.EqualValues(t, n-1, one.Cancelled)
		}
	}
}

// A batch has one record for each object, and they begin when the batch does.
func TestBatchesHaveARecordForEachObject(t *testing.T) {
	s := open(t, onDir(t.TempDir()))
	const n, size = 20, 64 << 10
	var keys []string
	var items []Item
	for i := range uint64(n) {
		keys = append(keys, fmt.Sprint("key ", i))
		items = append(items, item(keys[i], pattern(i, size)))
	}
	require.NoError(t, s.PutSet(items, PutOptions{}, nil))
	puts := recordsSince(t, s, 0, timing.Put)
	require.Len(t, puts, n)
	for i, r := range puts {
		require.Equal(t, puts[0].T0, r.T0)
		require.Positive(t, r.Copy)
		require.EqualValues(t, size, r.Bytes)
		if i > 0 {
			require.Greater(t, r.QueueWait, puts[i-1].QueueWait, "it waited for the one before it to be copied")
		}
	}
	check := func(kind timing.Kind, device bool, do func()) {
		before, gets := lastSequence(s), stats(t, s).Gets
		do()
		found := recordsSince(t, s, before, kind)
		require.Len(t, found, n)
		for _, r := range found {
			require.Equal(t, found[0].T0, r.T0)
			require.Equal(t, device, r.Device() > 0)
		}
		if kind == timing.Get {
			require.Equal(t, gets+n, stats(t, s).Gets, "each is counted once")
		}
	}
	snapshot := func() {
		views, err := s.Snapshot(keyList(keys...))
		require.NoError(t, err)
		releaseAll(views)
	}
	check(timing.Get, false, snapshot)
	check(timing.Persist, true, func() {
		errs, err := s.PersistEach(n, func(i int) []byte { return []byte(keys[i]) })
		require.NoError(t, err)
		for _, err := range errs {
			require.NoError(t, err)
		}
	})
	toDisk(t, s)
	check(timing.Get, true, snapshot)
}

// A put that writes through is one operation: its write is the device's part of its record.
func TestAPutThatWritesThroughIsOneRecord(t *testing.T) {
	o := onDir(t.TempDir())
	o.Disk.WriteThrough = true
	o.Disk.Durability = tier.Each
	s := open(t, o)
	put(t, s, "a", pattern(1, 100<<10))
	require.NoError(t, s.PutSet([]Item{item("b", pattern(2, 100<<10)), item("c", nil)}, PutOptions{}, nil))
	res, err := s.Reserve(100 << 10)
	require.NoError(t, err)
	_, err = res.Commit([]byte("d"), bytesDType, []int64{100 << 10}, PutOptions{})
	require.NoError(t, err)
	found := recordsSince(t, s, 0, timing.Put)
	require.Len(t, found, 4)
	for i, r := range found {
		require.Positive(t, r.Device(), "%d", i)
		require.Equal(t, timing.Each, r.Durability)
		if r.Bytes > 0 {
			require.Equal(t, i != 3, r.Copy > 0)
		}
	}
}

// What waits for a sync has that as the device's time: a removal, a flush.
func TestSyncsAreTheDevicesTime(t *testing.T) {
	for _, d := range []tier.Durability{tier.Each, tier.Batch, tier.None} {
		dir, o := onLayer()
		o.Disk.Durability = d
		watch := &watched{Dir: dir}
		o.Disk.FS = watch
		s := open(t, o)
		put(t, s, "a", pattern(1, 1000))
		put(t, s, "b", pattern(1, 1000))
		require.NoError(t, s.Flush())
		watch.sync = func() { time.Sleep(2 * time.Millisecond) }
		before := lastSequence(s)
		require.NoError(t, s.Remove([]byte("a")))
		v, err := s.Take([]byte("b"))
		require.NoError(t, err)
		v.Release()
		require.ErrorIs(t, s.Remove([]byte("a")), ErrNotFound)
		require.NoError(t, s.Flush())
		removals := recordsSince(t, s, before, timing.Remove)
		require.Len(t, removals, 2, "what is not there is no operation")
		for _, r := range removals {
			require.Equal(t, d == tier.Each, r.Device() >= int64(2*time.Millisecond), "%v: %+v", d, r)
			require.Equal(t, d == tier.Each, r.Path == timing.Layer)
		}
		flushes := recordsSince(t, s, before, timing.Flush)
		require.Len(t, flushes, 1)
		require.Equal(t, timing.Layer, flushes[0].Path)
	}
}

// With durability each a taken object does not come back, either.
func TestTakingIsDurable(t *testing.T) {
	dir, o := onLayer()
	o.Disk.Durability = tier.Each
	s := open(t, o)
	put(t, s, "a", []byte("a"))
	toDisk(t, s)
	v, err := s.Take([]byte("a"))
	require.NoError(t, err)
	for seed := range uint64(20) {
		after := o
		after.Disk.FS = dir.Crash(seed)
		found, err := Open(after)
		require.NoError(t, err)
		_, err = found.Get([]byte("a"))
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, found.Close(true))
	}
	require.Equal(t, "a", string(v.Bytes()))
	v.Release()
}

// An object whose removal the disk refuses is not lost by taking it.
func TestTakingThatFailsPutsBack(t *testing.T) {
	dir, o := onLayer()
	o.Disk.Durability = tier.Each
	s := open(t, o)
	_, err := s.Put([]byte("a"), pattern(1, 50<<10), PutOptions{Meta: []byte("meta")})
	require.NoError(t, err)
	toDisk(t, s)
	dir.Inject(faulty.Rule{Op: faulty.Sync, Err: syscall.EIO})
	_, err = s.Take([]byte("a"))
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, syscall.EIO)
	v := get(t, s, "a")
	require.Equal(t, "meta", string(v.Meta()))
	v.Release()
	requirePattern(t, s, "a", 1, 50<<10)
	failed := recordsSince(t, s, 0, timing.Remove)
	require.Len(t, failed, 1)
	require.Equal(t, timing.Failed, failed[0].Class)
	require.Positive(t, failed[0].Total())
}
