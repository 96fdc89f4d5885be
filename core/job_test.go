package core

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/tensor"
)

func openQueue(t testing.TB) *Queue {
	t.Helper()
	q, err := NewQueue()
	require.NoError(t, err)
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func submit(t testing.TB, s *Store, q *Queue, r JobRequest) *Job {
	t.Helper()
	j, err := s.Submit(q, r)
	require.NoError(t, err)
	return j
}

func await(t testing.TB, j *Job) {
	t.Helper()
	select {
	case <-j.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the job is not acknowledged")
	}
}

// results waits for a job and gives the result of each key.
func results(t testing.TB, j *Job) []Result {
	t.Helper()
	await(t, j)
	all := make([]Result, j.Len())
	for i := range all {
		r, finished := j.Result(i)
		require.True(t, finished)
		all[i] = r
	}
	return all
}

func keyList(list ...string) [][]byte {
	all := make([][]byte, len(list))
	for i, name := range list {
		all[i] = []byte(name)
	}
	return all
}

func spanOf(b []byte) Span { return Span(stay(b)) }

// isReadable asks the kernel.
func isReadable(t testing.TB, q *Queue) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	require.NoError(t, err)
	return fds[0].Revents&unix.POLLIN != 0
}

func TestJobKinds(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	a, b := bytes.Repeat([]byte{'a'}, 100), bytes.Repeat([]byte{'b'}, 100<<10)
	shape := []int64{2, 3}
	src := tensor.Source{Base: stay([]byte{0, 1, 2, 3, 4, 5}).Addr, DType: bytesDType, Shape: shape, Strides: []int64{1, 2}}
	meta, key := []byte("meta"), []byte("a")
	j := submit(t, s, q, JobRequest{Kind: JobPut, Tag: 7, Put: PutOptions{Meta: meta}, Items: []Item{
		{Key: key, Parts: []Part{stay(a)}}, item("b", b), {Key: []byte("t"), Tensor: &src},
	}})
	copy(meta, "????") // what the request says is copied; what it points to is not
	key[0], shape[0], src.Strides[0] = '?', 99, 99
	for _, r := range results(t, j) {
		require.NoError(t, r.Err)
		require.NotZero(t, r.Put.Seq)
	}
	require.EqualValues(t, 7, j.Tag())

	j = submit(t, s, q, JobRequest{Kind: JobGet, Keys: keyList("b", "none", "t", "a")})
	all := results(t, j)
	require.EqualValues(t, len(b), all[0].Value)
	require.ErrorIs(t, all[1].Err, ErrNotFound)
	v, err := j.View(0)
	require.NoError(t, err)
	require.Equal(t, b, v.Bytes())
	require.Equal(t, "meta", string(v.Meta()))
	v.Release()
	_, err = j.View(0)
	require.ErrorIs(t, err, ErrInvalid, "it was taken")
	_, err = j.View(1)
	require.ErrorIs(t, err, ErrNotFound)
	v, err = j.View(2)
	require.NoError(t, err)
	require.Equal(t, []int64{2, 3}, v.Shape())
	require.Equal(t, []byte{0, 2, 4, 1, 3, 5}, v.Bytes())
	v.Release()
	require.EqualValues(t, 1, stats(t, s).BorrowedObjects, "what nobody took")
	j.Close()
	j.Close()
	require.Zero(t, stats(t, s).BorrowedObjects)

	whole, head, tail := make([]byte, 100), make([]byte, 3), make([]byte, 4)
	j = submit(t, s, q, JobRequest{Kind: JobGetInto, Keys: keyList("a", "b"), Into: []Into{
		{Bytes: All, Spans: []Span{spanOf(whole)}},
		{Offset: 10, Bytes: 5, Spans: []Span{spanOf(head), spanOf(tail)}},
	}})
	all = results(t, j)
	require.EqualValues(t, 100, all[0].Value)
	require.EqualValues(t, 5, all[1].Value)
	require.Equal(t, a, whole)
	require.Equal(t, "bbb", string(head))
	require.Equal(t, "bb\x00\x00", string(tail))

	value := func(kind JobKind, keys ...string) (values []uint64, errs []error) {
		for _, r := range results(t, submit(t, s, q, JobRequest{Kind: kind, Keys: keyList(keys...)})) {
			values, errs = append(values, r.Value), append(errs, r.Err)
		}
		return values, errs
	}
	values, _ := value(JobExists, "a", "none", "b")
	require.Equal(t, []uint64{1, 0, 1}, values)
	_, errs := value(JobPrefetch, "a", "none")
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], ErrNotFound)
	_, errs = value(JobPersist, "a", "none")
	require.ErrorIs(t, errs[0], ErrUnsupported)
	require.ErrorIs(t, errs[1], ErrUnsupported)
	_, errs = value(JobRemove, "a", "a", "b", "t")
	require.NoError(t, errs[2])
	require.NotEqual(t, errs[0] == nil, errs[1] == nil, "one of the two removed it")
	requireEmpty(t, s)
}

func TestJobErrorsOfKeys(t *testing.T) {
	h := NewHost(nil, nil, nil)
	forbidden := make([]byte, 64)
	h.RefuseWrites(func(addr uintptr, n uint64) bool { return addr == spanOf(forbidden).Addr && n > 0 })
	s, q := openOnHost(t, h, Options{Capacity: 1 << 20}), openQueue(t)
	put(t, s, "k", bytes.Repeat([]byte{'k'}, 64))
	small, guard := make([]byte, 32), bytes.Repeat([]byte{'g'}, 64)
	for name, c := range map[string]struct {
		r    JobRequest
		want error
	}{
		"too small": {JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Bytes: All, Spans: []Span{spanOf(small)}}}}, ErrTooSmall},
		"no spans":  {JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Bytes: 1}}}, ErrTooSmall},
		"offset":    {JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Offset: 65, Bytes: All}}}, ErrInvalid},
		"range":     {JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Offset: 1, Bytes: 64}}}, ErrInvalid},
		"read-only": {JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Bytes: All, Spans: []Span{spanOf(guard[:8]), spanOf(forbidden)}}}}, ErrReadOnly},
		"missing":   {JobRequest{Kind: JobGetInto, Keys: keyList("none"), Into: []Into{{Bytes: All}}}, ErrNotFound},
		"exists":    {JobRequest{Kind: JobPut, Put: PutOptions{IfExists: Raise}, Items: []Item{item("k", small)}}, ErrExists},
		"capacity":  {JobRequest{Kind: JobPut, Items: []Item{{Key: []byte("l"), Parts: []Part{{1, 1 << 30}}}}}, ErrCapacity},
		"too large": {JobRequest{Kind: JobPut, Items: []Item{{Key: []byte("l"), Parts: []Part{{1, All}}}}}, ErrInvalid},
		"tensor": {JobRequest{Kind: JobPut, Items: []Item{{Key: []byte("l"), Tensor: &tensor.Source{
			DType: tensor.DType{Code: 99, Bits: 3, Lanes: 1}, Shape: []int64{1}}}}}, ErrUnsupported},
		"long key": {JobRequest{Kind: JobPut, Items: []Item{item(strings.Repeat("x", 5000), small)}}, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			j := submit(t, s, q, c.r)
			require.ErrorIs(t, results(t, j)[0].Err, c.want)
			_, err := j.View(0)
			require.ErrorIs(t, err, c.want)
		})
	}
	require.Equal(t, make([]byte, 64), forbidden)
	require.Equal(t, bytes.Repeat([]byte{'g'}, 64), guard, "nothing is written before all is checked")
	j := submit(t, s, q, JobRequest{Kind: JobGetInto, Keys: keyList("k"), Into: []Into{{Bytes: 8, Spans: []Span{spanOf(guard[:8]), spanOf(forbidden)}}}})
	require.NoError(t, results(t, j)[0].Err, "a span that is not reached does not matter")
}

func TestSubmitRefuses(t *testing.T) {
	s, q := open(t, Options{Jobs: JobOptions{Keys: 3}}), openQueue(t)
	closed := openQueue(t)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, closed.Close(), ErrInvalid)
	for name, c := range map[string]struct {
		q *Queue
		r JobRequest
	}{
		"no kind":      {q, JobRequest{Keys: keyList("a")}},
		"kind":         {q, JobRequest{Kind: JobPersist + 1, Keys: keyList("a")}},
		"destinations": {q, JobRequest{Kind: JobGetInto, Keys: keyList("a")}},
		"queue":        {closed, JobRequest{Kind: JobGet, Keys: keyList("a")}},
		"keys":         {q, JobRequest{Kind: JobGet, Keys: keyList("a", "b", "c", "d")}},
	} {
		_, err := s.Submit(c.q, c.r)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	j := submit(t, s, q, JobRequest{Kind: JobExists, Keys: keyList("a")})
	require.ErrorIs(t, j.Submit(), ErrInvalid, "a second time")
	await(t, j)
	require.NoError(t, s.Close(true))
	_, err := s.Submit(q, JobRequest{Kind: JobGet, Keys: keyList("a")})
	require.ErrorIs(t, err, ErrClosed)
	for _, o := range []JobOptions{{Workers: -1}, {Workers: maxWorkers + 1}, {Keys: -1}} {
		_, err = Open(Options{Capacity: 1 << 20, Jobs: o})
		require.ErrorIs(t, err, ErrInvalid)
	}
}

func TestJobWithoutKeys(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	j := submit(t, s, q, JobRequest{Kind: JobGet, Tag: 3})
	await(t, j)
	out := make([]Completion, 4)
	require.Equal(t, 1, q.Drain(out))
	require.Equal(t, Completion{Job: j, Index: -1, Last: true}, out[0])
	j.Cancel()
	j.Close()
	require.Zero(t, q.Drain(out))
}

// The descriptor is readable while there is something to drain, whoever reads it.
func TestQueueDescriptor(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	require.False(t, isReadable(t, q))
	first := submit(t, s, q, JobRequest{Kind: JobExists, Tag: 1, Keys: keyList("a", "b", "c")})
	second := submit(t, s, q, JobRequest{Kind: JobGet, Tag: 2, Keys: keyList("a", "b")})
	await(t, first)
	await(t, second)
	require.True(t, isReadable(t, q))
	require.Zero(t, q.Drain(nil))
	out := make([]Completion, 2)
	seen := map[uint64][]int{}
	last := map[uint64]int{}
	for total := 0; total < 5; {
		var counter [8]byte
		_, _ = unix.Read(q.FD(), counter[:]) // as a program does that knows eventfds
		n := q.Drain(out)
		for _, c := range out[:n] {
			tag := c.Job.Tag()
			require.Zero(t, last[tag], "nothing comes after the last")
			seen[tag] = append(seen[tag], c.Index)
			if c.Last {
				last[tag]++
			}
		}
		total += n
		require.Equal(t, total < 5, isReadable(t, q))
	}
	require.ElementsMatch(t, []int{0, 1, 2}, seen[1])
	require.ElementsMatch(t, []int{0, 1}, seen[2])
	require.Equal(t, map[uint64]int{1: 1, 2: 1}, last)
	require.Zero(t, q.Drain(out))
	await(t, submit(t, s, q, JobRequest{Kind: JobExists, Keys: keyList("a")}))
	require.True(t, isReadable(t, q))
	require.Equal(t, 1, q.Drain(out))
	require.False(t, isReadable(t, q), "Drain reads it")
}

// A descriptor that somebody closed, and whose number names a file by now, is neither written nor read nor closed.
func TestQueueDescriptorIsNotOursAnyMore(t *testing.T) {
	s := open(t, Options{})
	q, err := NewQueue()
	require.NoError(t, err)
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	require.NoError(t, unix.Dup3(pipe[1], q.FD(), unix.O_CLOEXEC))
	await(t, submit(t, s, q, JobRequest{Kind: JobExists, Keys: keyList("a")}))
	require.Equal(t, 1, q.Drain(make([]Completion, 2)))
	require.NoError(t, q.Close())
	var b [8]byte
	_, err = unix.Read(pipe[0], b[:])
	require.ErrorIs(t, err, unix.EAGAIN)
	require.NoError(t, unix.Close(q.FD()), "still open, and somebody else's")
}

// A queue may be closed first: the jobs go on.
func TestJobsOutliveTheirQueue(t *testing.T) {
	s, g := openGated(t, Options{})
	q := openQueue(t)
	data := make([]byte, 1000)
	j := submit(t, s, q, JobRequest{Kind: JobPut, Items: []Item{item("a", data)}})
	g.begun(t)
	require.NoError(t, q.Close())
	g.open()
	require.NoError(t, results(t, j)[0].Err)
	require.Zero(t, q.Drain(make([]Completion, 1)))
}

// gate is a copier that waits until it is let go on.
type gate struct {
	started chan struct{}
	let     chan struct{}
	now     atomic.Int32
	most    atomic.Int32
}

// openGated gives a store whose copies wait at a gate.
func openGated(t testing.TB, o Options) (*Store, *gate) {
	g := &gate{started: make(chan struct{}, 1<<16), let: make(chan struct{})}
	h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool {
		now := g.now.Add(1)
		for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
		}
		g.started <- struct{}{}
		<-g.let
		g.now.Add(-1)
		return copyGo(dst, src, n, flag) && flag.Load() == 0
	}, nil)
	return openOnHost(t, h, o), g
}

func (g *gate) open() { close(g.let) }

func (g *gate) begun(t testing.TB) {
	t.Helper()
	select {
	case <-g.started:
	case <-time.After(20 * time.Second):
		t.Fatal("no copy was begun")
	}
}

// Submit copies nothing and waits for nobody; the rest waits its turn, and its time in the queue is kept.
func TestSubmitDoesNotWait(t *testing.T) {
	const workers = 3
	s, g := openGated(t, Options{Jobs: JobOptions{Workers: workers, Keys: 20}})
	q := openQueue(t)
	data := make([]byte, 1000)
	items := make([]Item, 10)
	for i := range items {
		items[i] = item(fmt.Sprint(i), data)
	}
	j := submit(t, s, q, JobRequest{Kind: JobPut, Items: items})
	k := submit(t, s, q, JobRequest{Kind: JobPut, Items: items})
	late, err := s.NewJob(q, JobRequest{Kind: JobExists, Keys: keyList("a")})
	require.NoError(t, err)
	require.ErrorIs(t, late.Submit(), ErrTooMany)
	late.Cancel() // it was not submitted: nothing to end
	for range workers {
		g.begun(t)
	}
	const pause = 20 * time.Millisecond
	time.Sleep(pause)
	require.Zero(t, q.Drain(make([]Completion, 1)))
	_, finished := j.Result(0)
	require.False(t, finished)
	g.open()
	waited := 0
	for _, r := range append(results(t, j), results(t, k)...) {
		require.NoError(t, r.Err)
		if r.Wait >= pause {
			waited++
		}
	}
	require.GreaterOrEqual(t, waited, 20-workers)
	require.EqualValues(t, workers, g.most.Load())
	require.NoError(t, late.Submit(), "there is room again")
	require.NoError(t, results(t, late)[0].Err)
}

// A job of many keys does not hold up a small one.
func TestJobsTakeTurns(t *testing.T) {
	s, g := openGated(t, Options{Jobs: JobOptions{Workers: 1}})
	q := openQueue(t)
	data := make([]byte, 8)
	items := make([]Item, 1000)
	for i := range items {
		items[i] = item(fmt.Sprint(i), data)
	}
	many := submit(t, s, q, JobRequest{Kind: JobPut, Items: items})
	few := submit(t, s, q, JobRequest{Kind: JobExists, Keys: keyList("a")})
	g.begun(t)
	g.open()
	await(t, few)
	await(t, many)
	out := make([]Completion, 2000)
	out = out[:q.Drain(out)]
	for i, c := range out {
		if c.Job == few {
			require.Less(t, i, 10)
		}
	}
}

// What was begun finishes, the rest is cancelled at once, and the acknowledgement waits for the former.
func TestCancel(t *testing.T) {
	s, g := openGated(t, Options{Jobs: JobOptions{Workers: 2}})
	q := openQueue(t)
	data := make([]byte, 1000)
	items := make([]Item, 10)
	for i := range items {
		items[i] = item(fmt.Sprint(i), data)
	}
	j := submit(t, s, q, JobRequest{Kind: JobPut, Items: items})
	g.begun(t)
	g.begun(t)
	j.Cancel()
	j.Cancel()
	out := make([]Completion, 20)
	require.Equal(t, 8, q.Drain(out))
	for _, c := range out[:8] {
		require.ErrorIs(t, c.Err, ErrCancelled)
		require.NotContains(t, c.Err.Error(), "closed")
		require.GreaterOrEqual(t, c.Index, 2)
		require.False(t, c.Last)
	}
	select {
	case <-j.Done():
		t.Fatal("acknowledged, and the source is being read")
	case <-time.After(10 * time.Millisecond):
	}
	g.open()
	await(t, j)
	require.Equal(t, 2, q.Drain(out))
	require.NoError(t, out[0].Err)
	require.NoError(t, out[1].Err)
	require.True(t, out[1].Last)
	j.Cancel()
	require.Zero(t, q.Drain(out))
	require.EqualValues(t, 2, stats(t, s).Objects)
}

// Closing the store ends all jobs; what was got before stays.
func TestCloseWithJobs(t *testing.T) {
	s, g := openGated(t, Options{Jobs: JobOptions{Workers: 2}})
	q := openQueue(t)
	data := make([]byte, 1000)
	first := submit(t, s, q, JobRequest{Kind: JobPut, Items: []Item{item("k", data)}})
	g.begun(t)
	g.let <- struct{}{}
	await(t, first)
	got := submit(t, s, q, JobRequest{Kind: JobGet, Keys: keyList("k")})
	await(t, got)
	items := make([]Item, 10)
	for i := range items {
		items[i] = item(fmt.Sprint(i), data)
	}
	putting := submit(t, s, q, JobRequest{Kind: JobPut, Items: items})
	g.begun(t)
	g.begun(t)
	waiting := submit(t, s, q, JobRequest{Kind: JobExists, Keys: keyList("a", "b")})
	closed := make(chan error)
	go func() { closed <- s.Close(true) }()
	await(t, waiting) // before the copies that were begun have ended
	g.open()
	require.NoError(t, <-closed)
	for _, r := range append(results(t, putting), results(t, waiting)...) {
		require.ErrorIs(t, r.Err, ErrCancelled)
	}
	require.True(t, isReadable(t, q))
	require.False(t, s.isUnmapped(), "the job views an object")
	v, err := got.View(0)
	require.NoError(t, err)
	require.Equal(t, data, v.Bytes())
	v.Release()
	for _, j := range []*Job{first, got, putting, waiting} {
		j.Close()
	}
}

// A get that nobody wants any more gives back what it gets.
func TestCloseOfAJob(t *testing.T) {
	s, g := openGated(t, Options{Jobs: JobOptions{Workers: 1}})
	q := openQueue(t)
	data := make([]byte, 1000)
	blocker := submit(t, s, q, JobRequest{Kind: JobPut, Items: []Item{item("k", data)}})
	g.begun(t)
	get := submit(t, s, q, JobRequest{Kind: JobGet, Keys: keyList("k")})
	more := submit(t, s, q, JobRequest{Kind: JobPut, Items: []Item{item("l", data)}})
	get.Close()
	more.Close() // goes on: somebody wants it stored
	require.ErrorIs(t, results(t, get)[0].Err, ErrCancelled)
	g.open()
	await(t, blocker)
	require.NoError(t, results(t, more)[0].Err)
	require.EqualValues(t, 2, stats(t, s).Objects)
	require.Zero(t, stats(t, s).BorrowedObjects)
	require.Equal(t, 3, q.Drain(make([]Completion, 9)), "the queue hears of closed jobs")
}

// What it gets when it is closed in the middle of it goes back, too.
func TestCloseOfAJobThatIsGetting(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	put(t, s, "k", make([]byte, 100))
	p := s.at([]byte("k"))
	p.mu.Lock()
	j := submit(t, s, q, JobRequest{Kind: JobGet, Keys: keyList("k")})
	require.Eventually(t, func() bool {
		s.jobs.mu.Lock()
		defer s.jobs.mu.Unlock()
		return j.next == 1
	}, 10*time.Second, time.Millisecond)
	j.Close()
	p.mu.Unlock()
	require.NoError(t, results(t, j)[0].Err)
	require.Zero(t, stats(t, s).BorrowedObjects)
	_, err := j.View(0)
	require.ErrorIs(t, err, ErrInvalid)
}

func TestAtomicJob(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	data := make([]byte, 100)
	put(t, s, "b", data)
	items := []Item{item("a", data), item("b", data)}
	for _, r := range results(t, submit(t, s, q, JobRequest{Kind: JobPut, Atomic: true, Put: PutOptions{IfExists: Raise}, Items: items})) {
		require.ErrorIs(t, r.Err, ErrExists)
	}
	require.EqualValues(t, 1, stats(t, s).Objects)
	for _, r := range results(t, submit(t, s, q, JobRequest{Kind: JobPut, Atomic: true, Items: items})) {
		require.NoError(t, r.Err)
		require.NotZero(t, r.Put.Seq)
	}
	require.EqualValues(t, 2, stats(t, s).Objects)
}

// A bug in an operation is an error of its keys, not the end of the process.
func TestPanicInAJob(t *testing.T) {
	h := NewHost(nil, func(dst, src, n uintptr, flag *atomic.Uint32) bool { panic("a bug") }, nil)
	s, err := OpenOn(h, nil, Options{Capacity: 1 << 20})
	require.NoError(t, err)
	q := openQueue(t)
	data := make([]byte, 10)
	for _, atomically := range []bool{false, true} {
		j := submit(t, s, q, JobRequest{Kind: JobPut, Atomic: atomically, Items: []Item{item("k", data)}})
		require.ErrorContains(t, results(t, j)[0].Err, "a bug")
	}
	require.NoError(t, s.Close(true))
	for i := range s.shards {
		require.Zero(t, s.shards[i].inflight.Load())
	}
	require.NoError(t, s.unmap(), "a panic leaves its draft behind")
	h.remove(s)
}

// Ten thousand jobs at a time leave nothing behind.
func TestTenThousandJobs(t *testing.T) {
	s, q := open(t, Options{}), openQueue(t)
	put(t, s, "k", make([]byte, 1000))
	const n = 10_000
	open := descriptors(t)
	jobs := make([]*Job, n)
	start := time.Now()
	for i := range jobs {
		kind := []JobKind{JobGet, JobExists, JobPrefetch}[i%3]
		jobs[i] = submit(t, s, q, JobRequest{Kind: kind, Tag: uint64(i), Keys: keyList("k")})
	}
	submitted := time.Since(start)
	seen := make([]bool, n)
	out := make([]Completion, 100)
	for left := n; left > 0; {
		got := q.Drain(out)
		for _, c := range out[:got] {
			require.NoError(t, c.Err)
			require.True(t, c.Last)
			require.False(t, seen[c.Job.Tag()])
			seen[c.Job.Tag()] = true
		}
		if left -= got; got == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	t.Logf("%v a job to submit, %v to drain all", submitted/n, time.Since(start))
	require.Equal(t, open, descriptors(t))
	for _, j := range jobs {
		j.Close()
	}
	require.Zero(t, stats(t, s).BorrowedObjects)
	require.Zero(t, s.jobs.unfinished.Load())
	require.Eventually(t, func() bool {
		s.jobs.mu.Lock()
		defer s.jobs.mu.Unlock()
		return s.jobs.workers == 0 && len(s.jobs.list) == 0
	}, 10*time.Second, time.Millisecond)
}

func descriptors(t testing.TB) int {
	var all unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &all))
	n := 0
	for fd := range min(int(all.Cur), 4096) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
