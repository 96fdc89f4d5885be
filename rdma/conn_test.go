package rdma

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

func TestReadsCopyBytes(t *testing.T) {
	for _, tc := range []struct {
		name       string
		size, part int
		options    ConnOptions
		maxMessage int64
		shortPoll  int64
		delay      int64
	}{
		{name: "one", size: 1 << 20, part: 1 << 20},
		{name: "many", size: 1 << 20, part: 4096},
		{name: "odd sizes", size: 1<<20 - 17, part: 1001},
		{name: "split", size: 1 << 20, part: 1 << 20, maxMessage: 4096},
		{name: "split unevenly", size: 100_000, part: 33_333, maxMessage: 1000},
		{name: "depth of one", size: 1 << 16, part: 1 << 10, options: ConnOptions{Depth: 1}},
		{name: "depth of three", size: 1 << 16, part: 1 << 10, options: ConnOptions{Depth: 3}},
		{name: "several queue pairs", size: 1 << 20, part: 1 << 10, options: ConnOptions{QueuePairs: 4, Depth: 16}},
		{name: "short polls", size: 1 << 18, part: 1 << 10, shortPoll: 1, options: ConnOptions{Depth: 8}},
		{name: "late", size: 1 << 18, part: 1 << 10, delay: 300, options: ConnOptions{Depth: 64, QueuePairs: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, tc.size, tc.options, func(f *fake) {
				if tc.maxMessage > 0 {
					f.Set(t, "max_message", tc.maxMessage)
				}
				f.Set(t, "short_poll", tc.shortPoll)
				f.Set(t, "delay_us", tc.delay)
			})
			require.NoError(t, p.ab.Read(within(t, 10*time.Second), p.parts(tc.part)))
			require.Equal(t, p.from, p.to)
			before := Live()
			require.NoError(t, p.ab.Read(within(t, 10*time.Second), p.parts(tc.part)), "again")
			require.Equal(t, before, Live(), "a second transfer registers nothing and makes nothing")
			require.Zero(t, p.a.Stats().Stale)
		})
	}
}

// Both ends may read at a time.
func TestReadsInBothDirections(t *testing.T) {
	p := newPair(t, 1<<18, ConnOptions{Depth: 32}, func(f *fake) { f.Set(t, "delay_us", 100) })
	back := memory(t, 1<<18)
	theirs := register(t, p.b, back, LocalTarget)
	mine := memory(t, 1<<18)
	fill(mine)
	source := register(t, p.a, mine, RemoteRead)
	one, err := p.ab.Submit(within(t, 10*time.Second), p.parts(512))
	require.NoError(t, err)
	require.NoError(t, p.ba.Read(within(t, 10*time.Second), []Read{{To: theirs, From: source.Remote(), Length: 1 << 18}}))
	require.NoError(t, one.Wait(within(t, 10*time.Second)))
	require.Equal(t, p.from, p.to)
	require.Equal(t, mine, back)
}

func TestManyBatchesAtATime(t *testing.T) {
	p := newPair(t, 1<<20, ConnOptions{Depth: 32, QueuePairs: 2}, func(f *fake) { f.Set(t, "delay_us", 50) })
	r := seeded(t)
	var batches []*Batch
	all := p.parts(1 << 10)
	for len(all) > 0 {
		n := min(1+r.IntN(100), len(all))
		b, err := p.ab.Submit(within(t, 20*time.Second), all[:n])
		require.NoError(t, err)
		batches, all = append(batches, b), all[n:]
	}
	for _, i := range r.Perm(len(batches)) {
		require.NoError(t, batches[i].Wait(within(t, 20*time.Second)))
		require.Nil(t, batches[i].Errors())
	}
	require.Equal(t, p.from, p.to)
}

func TestEmptyReads(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	require.NoError(t, p.ab.Read(within(t, time.Second), nil))
	empty := Read{To: p.target, From: p.source.Remote()}
	require.NoError(t, p.ab.Read(within(t, time.Second), []Read{empty, empty}))
	require.NoError(t, p.ab.Read(within(t, time.Second), []Read{empty, p.whole()[0], empty}))
	require.Equal(t, p.from, p.to)
}

func TestBadReadsChangeNothing(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	other := register(t, p.b, memory(t, 4096), LocalTarget)
	unreadable := register(t, p.a, memory(t, 4096), RemoteRead)
	good := p.whole()[0]
	change := func(f func(*Read)) Read {
		r := good
		f(&r)
		return r
	}
	for name, tc := range map[string]struct {
		read Read
		want error
	}{
		"no target":            {change(func(r *Read) { r.To = nil }), ErrInvalid},
		"target elsewhere":     {change(func(r *Read) { r.To = other }), ErrInvalid},
		"target not writable":  {change(func(r *Read) { r.To = unreadable }), ErrInvalid},
		"beyond the target":    {change(func(r *Read) { r.ToOffset = 1 }), ErrInvalid},
		"offset beyond":        {change(func(r *Read) { r.ToOffset = 1 << 63; r.Length = 1 << 63 }), ErrInvalid},
		"beyond the source":    {change(func(r *Read) { r.FromOffset = 1; r.To = p.target }), ErrInvalid},
		"source wraps":         {change(func(r *Read) { r.From.Addr = ^uint64(0) }), ErrInvalid},
		"another life of peer": {change(func(r *Read) { r.From.Epoch++ }), ErrStale},
	} {
		posts := p.f.Get("requests")
		_, err := p.ab.Submit(within(t, time.Second), []Read{good, tc.read})
		require.ErrorIs(t, err, tc.want, name)
		require.Equal(t, posts, p.f.Get("requests"), name)
	}
	require.NoError(t, p.ab.Err())
	require.NoError(t, p.ab.Read(within(t, time.Second), p.whole()))
	require.NoError(t, p.target.Close(within(t, time.Second)), "nothing holds it")
}

func TestWrongKeyEndsBothEnds(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	wrong := p.whole()
	wrong[0].From.RKey++
	err := p.ab.Read(within(t, time.Second), wrong)
	require.ErrorIs(t, err, ErrRemoteAccess)
	require.False(t, Retryable(err))
	await(t, p.ab.Gone())
	await(t, p.ba.Gone())
	require.ErrorIs(t, p.ba.Err(), ErrPeerLost)
	_, err = p.ab.Submit(within(t, time.Second), p.whole())
	require.ErrorIs(t, err, ErrFlushed)
	require.True(t, Retryable(err), "over a new connection")
}

func TestDeregisteredMemoryCannotBeRead(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	remote := p.source.Remote()
	require.NoError(t, p.source.Close(within(t, time.Second)))
	require.NoError(t, p.source.Close(within(t, time.Second)), "idempotent")
	err := p.ab.Read(within(t, time.Second), []Read{{To: p.target, From: remote, Length: 4096}})
	require.ErrorIs(t, err, ErrRemoteAccess)
}

func TestStatuses(t *testing.T) {
	for status, want := range map[ibv.Status]error{
		ibv.LocalLength: ErrLocal, ibv.LocalOperation: ErrLocal, ibv.LocalProtection: ErrLocal, ibv.LocalAccess: ErrLocal,
		ibv.RemoteAccess: ErrRemoteAccess, ibv.RemoteInvalid: ErrRemoteAccess, ibv.RemoteOperation: ErrPeerLost,
		ibv.RetryExceeded: ErrPeerLost, ibv.RNRExceeded: ErrPeerLost, ibv.Fatal: ErrDevice, ibv.GeneralError: ErrDevice,
		ibv.Flushed: ErrFlushed,
	} {
		p := newPair(t, 64<<10, ConnOptions{Depth: 16}, nil)
		p.f.Set(t, "fail_after", 5)
		p.f.Set(t, "fail_status", int64(status))
		b, err := p.ab.Submit(within(t, time.Second), p.parts(1<<10))
		require.NoError(t, err)
		require.ErrorIs(t, b.Wait(within(t, time.Second)), want, "status %d", status)
		errs := b.Errors()
		require.Len(t, errs, 64)
		for i, err := range errs {
			switch {
			case i < 5:
				require.NoError(t, err, "read %d came before the failure", i)
			case i == 5:
				var re *ReadError
				require.ErrorAs(t, err, &re)
				require.EqualValues(t, status, re.Status)
				require.EqualValues(t, 0x77, re.VendorErr)
			default:
				require.Error(t, err, "read %d", i)
			}
		}
		require.Equal(t, p.from[:5<<10], p.to[:5<<10])
		await(t, p.ab.Gone())
		require.NoError(t, p.target.Close(within(t, time.Second)), "all holds are gone")
	}
}

// A batch that had nothing to do with the failure may be tried again.
func TestOtherBatchesAreFlushed(t *testing.T) {
	p := newPair(t, 64<<10, ConnOptions{Depth: 16}, func(f *fake) { f.Set(t, "delay_us", 2000) })
	wrong := p.whole()
	wrong[0].From.RKey++
	bad, err := p.ab.Submit(within(t, time.Second), wrong)
	require.NoError(t, err)
	good, err := p.ab.Submit(within(t, time.Second), p.parts(1024))
	require.NoError(t, err)
	require.ErrorIs(t, bad.Wait(within(t, time.Second)), ErrRemoteAccess)
	err = good.Wait(within(t, time.Second))
	require.ErrorIs(t, err, ErrFlushed)
	require.NotErrorIs(t, err, ErrRemoteAccess)
	require.True(t, Retryable(err))
}

// A completion that never comes: the deadline ends the batch, but not before the queue pair was flushed.
func TestDroppedCompletion(t *testing.T) {
	for _, mute := range []bool{false, true} {
		p := newPair(t, 64<<10, ConnOptions{Timeout: 50 * time.Millisecond}, nil)
		p.f.Set(t, "drop", 1)
		if mute {
			p.f.Set(t, "no_flush", 1) // a card that hangs: only destroying helps
		}
		b, err := p.ab.Submit(context.Background(), p.parts(1<<10))
		require.NoError(t, err)
		select {
		case <-b.Done():
			t.Fatal("done before its time")
		case <-time.After(10 * time.Millisecond):
		}
		await(t, b.Done()) // with nobody waiting
		err = b.Wait(context.Background())
		require.ErrorIs(t, err, ErrDeadline)
		require.False(t, Retryable(err))
		await(t, p.ab.Gone())
		require.NoError(t, p.target.Close(within(t, time.Second)))
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	p.f.Set(t, "drop", 1)
	ctx, cancel := context.WithCancel(context.Background())
	b, err := p.ab.Submit(ctx, p.whole())
	require.NoError(t, err)
	time.AfterFunc(10*time.Millisecond, cancel)
	err = b.Wait(ctx)
	require.ErrorIs(t, err, ErrDeadline)
	require.ErrorIs(t, err, context.Canceled)
	_, err = p.ab.Submit(ctx, p.whole())
	require.ErrorIs(t, err, context.Canceled)
}

// A later deadline of one batch does not hide the earlier one of another.
func TestEarliestDeadlineCounts(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{Timeout: time.Minute}, nil)
	p.f.Set(t, "drop", 2)
	late, err := p.ab.Submit(context.Background(), p.whole())
	require.NoError(t, err)
	soon, err := p.ab.Submit(within(t, 30*time.Millisecond), p.whole())
	require.NoError(t, err)
	require.ErrorIs(t, soon.Wait(context.Background()), ErrDeadline)
	err = late.Wait(context.Background())
	require.ErrorIs(t, err, ErrFlushed)
	require.True(t, Retryable(err), "it was not late itself")
}

func TestPostingFails(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOMEM, syscall.EIO, syscall.EINVAL} {
		for _, after := range []int64{0, 1, 40, 63} {
			p := newPair(t, 128<<10, ConnOptions{}, nil)
			p.f.Set(t, "post_after", after)
			p.f.Set(t, "post_errno", int64(errno))
			b, err := p.ab.Submit(within(t, time.Second), p.parts(1<<10))
			require.NoError(t, err)
			err = b.Wait(within(t, time.Second))
			require.ErrorIs(t, err, ErrDevice)
			require.ErrorIs(t, err, errno)
			require.Len(t, b.Errors(), 128)
			require.Error(t, b.Errors()[after])
			await(t, p.ab.Gone())
			require.NoError(t, p.target.Close(within(t, time.Second)))
		}
	}
}

func TestDeviceRemoval(t *testing.T) {
	p := newPair(t, 64<<10, ConnOptions{QueuePairs: 2}, nil)
	p.f.Set(t, "drop", 3)
	b, err := p.ab.Submit(within(t, 10*time.Second), p.parts(1<<10))
	require.NoError(t, err)
	p.f.Event(0, int32(ibv.EventDeviceFatal))
	err = b.Wait(within(t, 10*time.Second))
	require.ErrorIs(t, err, ErrDevice)
	require.False(t, Retryable(err))
	_, err = p.a.Register(addressOf(p.to), 4096, LocalTarget)
	require.ErrorIs(t, err, ErrDevice)
	await(t, p.ab.Gone())
	await(t, p.ba.Gone())
}

func TestEvents(t *testing.T) {
	for kind, want := range map[ibv.EventType]error{
		ibv.EventQPFatal: ErrDevice, ibv.EventQPAccess: ErrPeerLost, ibv.EventPortError: ErrPeerLost,
		ibv.EventCQError: ErrDevice,
	} {
		p := newPair(t, 4096, ConnOptions{QueuePairs: 3}, nil)
		p.f.Event(0, int32(kind))
		await(t, p.ab.Broken())
		require.ErrorIs(t, p.ab.Err(), want, "event %d", kind)
		await(t, p.ab.Gone())
	}
	p := newPair(t, 4096, ConnOptions{}, nil)
	p.f.Event(0, int32(ibv.EventGIDChange))
	require.NoError(t, p.ab.Read(within(t, time.Second), p.whole()))
}

func TestBrokenCompletionQueue(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	p.f.Set(t, "poll_error", 1)
	require.ErrorIs(t, p.ab.Read(within(t, 10*time.Second), p.whole()), ErrDevice)
	await(t, p.ab.Gone())
}

func TestCloseIsHeardByThePeer(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	require.NoError(t, p.ab.Close())
	require.NoError(t, p.ab.Close(), "idempotent")
	await(t, p.ba.Gone())
	require.ErrorIs(t, p.ba.Err(), ErrPeerClosed)
	require.ErrorIs(t, p.ab.Err(), ErrClosed)
	require.ErrorIs(t, p.ab.Read(within(t, time.Second), p.whole()), ErrClosed)
}

func TestCloseEndsReads(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	p.f.Set(t, "drop", 1)
	b, err := p.ab.Submit(within(t, 10*time.Second), p.whole())
	require.NoError(t, err)
	require.NoError(t, p.ab.Close())
	err = b.Wait(within(t, time.Second))
	require.ErrorIs(t, err, ErrFlushed)
	require.ErrorIs(t, err, ErrClosed)
}

// A queue pair that cannot be destroyed keeps its targets registered, and Gone silent, until it can.
func TestQuarantine(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{Timeout: 20 * time.Millisecond}, nil)
	p.f.Set(t, "drop", 1)
	p.f.Set(t, "no_flush", 1)
	p.f.Set(t, "destroy_qp_errno", int64(syscall.EBUSY))
	b, err := p.ab.Submit(context.Background(), p.whole())
	require.NoError(t, err)
	err = b.Wait(within(t, 10*time.Second))
	require.ErrorIs(t, err, ErrQuarantined)
	require.False(t, Retryable(err))
	require.ErrorIs(t, p.ab.Close(), ErrQuarantined)
	require.ErrorIs(t, p.target.Close(within(t, 10*time.Millisecond)), ErrBusy)
	require.Equal(t, 1, p.a.Stats().Quarantined)
	require.False(t, isClosed(p.ab.Gone()))
	require.ErrorIs(t, p.a.Close(), ErrQuarantined)

	p.f.Reset()
	require.NoError(t, p.ab.Close())
	await(t, p.ab.Gone())
	require.Zero(t, p.a.Stats().Quarantined)
	require.NoError(t, p.target.Close(within(t, time.Second)))
}

// Closing a region waits for the reads into it.
func TestCloseOfATargetInUse(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, func(f *fake) { f.Set(t, "delay_us", 30_000) })
	b, err := p.ab.Submit(within(t, 10*time.Second), p.whole())
	require.NoError(t, err)
	require.ErrorIs(t, p.target.Close(within(t, time.Millisecond)), ErrBusy)
	again, err := p.ab.Submit(within(t, 10*time.Second), p.whole())
	require.NoError(t, err, "a region whose Close gave up is as before")
	require.NoError(t, p.target.Close(within(t, 10*time.Second)))
	require.True(t, isClosed(b.Done()) && isClosed(again.Done()))
	require.NoError(t, b.Wait(context.Background()))
	_, err = p.ab.Submit(within(t, time.Second), p.whole())
	require.ErrorIs(t, err, ErrClosed)
}

// A parked poller asks the device nothing.
func TestParkedPollerDoesNothing(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	require.NoError(t, p.ab.Read(within(t, time.Second), p.whole()))
	quiet := func() bool {
		before := p.f.Get("polls")
		time.Sleep(50 * time.Millisecond)
		return p.f.Get("polls") == before
	}
	require.Eventually(t, quiet, 2*time.Second, time.Millisecond)
	p.f.Set(t, "delay_us", 500_000)
	b, err := p.ab.Submit(within(t, 10*time.Second), p.whole())
	require.NoError(t, err)
	require.True(t, quiet(), "also while a read takes its time")
	require.NoError(t, b.Wait(within(t, 10*time.Second)))
}

// Few requests tell their end, and so few completions have to be taken.
func TestFewRequestsAreSignaled(t *testing.T) {
	p := newPair(t, 1<<20, ConnOptions{}, nil)
	requests, signaled := p.f.Get("requests"), p.f.Get("signaled")
	require.NoError(t, p.ab.Read(within(t, time.Second), p.parts(1<<10)))
	requests, signaled = p.f.Get("requests")-requests, p.f.Get("signaled")-signaled
	require.EqualValues(t, 1024, requests)
	require.LessOrEqual(t, signaled*16, requests)
}

// Connections beyond what one completion queue holds get another.
func TestConnectionsBeyondACompletionQueue(t *testing.T) {
	f := provider(t)
	f.Set(t, "max_cqe", 64)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	to, from := memory(t, 1<<16), memory(t, 1<<16)
	fill(from)
	target, source := register(t, a, to, LocalTarget), register(t, b, from, RemoteRead)
	for range 5 {
		c, _ := connect(t, a, b, ConnOptions{Depth: 40}, ConnOptions{Depth: 40})
		clear(to)
		require.NoError(t, c.Read(within(t, time.Second), []Read{{To: target, From: source.Remote(), Length: 1 << 16}}))
		require.Equal(t, from, to)
	}
	require.Len(t, a.pollers, 5)
	_, _, err, _ := tryConnect(t, a, b, ConnOptions{Depth: 65}, ConnOptions{})
	require.ErrorIs(t, err, ErrInvalid)
}

// Completions that belong to nobody: of a queue pair that is gone, of a slot that has another one now, of a read that has ended.
func TestStaleCompletions(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	q := p.ab.queues[0]
	b := newBareOn(t, p.a, q.poller.cq)
	poster, err := shim.NewPoster()
	require.NoError(t, err)
	defer poster.Close()
	for i, id := range []uint64{200 << 48, q.base + 1<<32, q.base | 7, ^uint64(0)} {
		b.read.ID, b.read.Signaled = id, 1
		_, err := poster.Post(b.qp, []shim.Read{b.read}, b.to)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return p.a.Stats().Stale == uint64(i+1) }, 5*time.Second, time.Millisecond, "%#x", id)
	}
	require.NoError(t, p.ab.Read(within(t, time.Second), p.whole()))
	require.Equal(t, p.from, p.to)

	// The number of a read that is under way, of another generation.
	p.f.Set(t, "drop", 1)
	late, err := p.ab.Submit(within(t, time.Minute), p.whole())
	require.NoError(t, err)
	b.read.ID = (q.base + 1<<32) | 1
	_, err = poster.Post(b.qp, []shim.Read{b.read}, b.to)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.a.Stats().Stale == 5 }, 5*time.Second, time.Millisecond)
	require.False(t, isClosed(late.Done()))
}

func TestSequenceNumbersWrap(t *testing.T) {
	p := newPair(t, 1<<20, ConnOptions{Depth: 48}, nil)
	p.ab.mu.Lock()
	p.ab.queues[0].head, p.ab.queues[0].tail = ^uint32(0)-100, ^uint32(0)-100
	p.ab.mu.Unlock()
	require.NoError(t, p.ab.Read(within(t, 5*time.Second), p.parts(1<<10)))
	require.Equal(t, p.from, p.to)
	p.ab.mu.Lock()
	defer p.ab.mu.Unlock()
	require.EqualValues(t, 923, p.ab.queues[0].tail)
}

func TestErrorTexts(t *testing.T) {
	err := error(&ReadError{Status: uint32(ibv.RemoteAccess), VendorErr: 0x88})
	require.ErrorContains(t, err, "does not let")
	require.ErrorContains(t, err, "0x88")
	require.False(t, Retryable(nil))
	require.True(t, Retryable(errors.Join(ErrPeerLost)))
}
