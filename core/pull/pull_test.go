package pull_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core"
	"moorage/core/cost"
	"moorage/core/pull"
	"moorage/core/registry"
	"moorage/core/tensor"
	"moorage/rdma"
)

// options of an endpoint that copies or registers what is not registered.
func with(p cost.Policy) pull.Options {
	return pull.Options{Model: cost.Model{Policy: p}, Chunk: 64 << 10, Chunks: 6}
}

// source gives memory of theirs with that content, for each way out of it.
func (w *world) source(t *testing.T, way pull.Way, data []byte) pull.Slice {
	if way == pull.W0 {
		return w.theirs.object(t, fmt.Sprintf("%p", data), data)
	}
	b := memory(t, len(data))
	copy(b, data)
	if way == pull.W1 {
		return w.theirs.registered(t, b)
	}
	return slice(b)
}

// target gives memory of mine, for each way into it.
func (w *world) target(t *testing.T, way pull.Way, n int) (pull.Slice, []byte) {
	if way == pull.R2 {
		return w.mine.room(t, n)
	}
	b := memory(t, n)
	if way == pull.R1 {
		return w.mine.registered(t, b), b
	}
	return slice(b), b
}

func policyOf(way pull.Way) cost.Policy {
	if way == pull.W3 || way == pull.R3 {
		return cost.Always
	}
	return cost.Never
}

// TestEveryWay: from each kind of memory into each kind, at sizes around a bounce buffer and beyond all of a window; the bytes
// arrive, by the way that was meant, and exactly what has to be registered is.
func TestEveryWay(t *testing.T) {
	for out := pull.W0; out <= pull.W3; out++ {
		for in := pull.R1; in <= pull.R4; in++ {
			t.Run(out.String()+in.String(), func(t *testing.T) {
				w := newWorld(t, with(policyOf(in)), with(policyOf(out)))
				first := true
				for i, n := range []int{1, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 + 13} {
					data := make([]byte, n)
					fill(data, uint64(i))
					from := w.source(t, out, data)
					into, b := w.target(t, in, n)
					mine, theirs := w.mine.store.Registry().Stats(), w.theirs.store.Registry().Stats()
					regions := [2]uint64{w.theirs.at.Stats().Regions, w.mine.at.Stats().Regions}
					sent, got, err := w.transfer(within(t, 10*time.Second), []pull.Slice{from}, []pull.Slice{into})
					require.NoError(t, err)
					require.True(t, string(data) == string(b), "%d bytes", n)

					require.Equal(t, only(out, n), sent.Bytes)
					require.Equal(t, only(in, n), got.Bytes)
					require.Equal(t, copied(out == pull.W2, n), sent.Copied)
					require.Equal(t, copied(in == pull.R4, n), got.Copied)
					require.Equal(t, one(out == pull.W3), sent.Registrations)
					require.Equal(t, one(in == pull.R3), got.Registrations)
					// Slabs and bounce buffers are registered the first time, and never again.
					require.EqualValues(t, one(out == pull.W3 || first && out != pull.W1), w.theirs.store.Registry().Stats().Registered-theirs.Registered)
					require.EqualValues(t, one(in == pull.R3 || first && in != pull.R1), w.mine.store.Registry().Stats().Registered-mine.Registered)
					// What was registered for this transfer is not any more.
					require.EqualValues(t, one(first && out != pull.W1 && out != pull.W3), w.theirs.at.Stats().Regions-regions[0])
					require.EqualValues(t, one(first && in != pull.R1 && in != pull.R3), w.mine.at.Stats().Regions-regions[1])
					first = false
				}
			})
		}
	}
}

func only(w pull.Way, n int) (all [pull.Ways]uint64) {
	all[w] = uint64(n)
	return all
}

func copied(ok bool, n int) uint64 {
	if ok {
		return uint64(n)
	}
	return 0
}

func one(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

// TestMixedSlices: any number of slices of any kind on both sides, cut differently, over a card with small limits.
func TestMixedSlices(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, with(cost.Never), with(cost.Never), limit{"max_mr_size", 128 << 10}, limit{"max_message", 100_000})
	for round := range 20 {
		data := make([]byte, 1+r.IntN(2<<20))
		fill(data, uint64(round))
		var from, into []pull.Slice
		var places [][]byte
		for rest := data; len(rest) > 0; {
			n := min(1+r.IntN(300_000), len(rest))
			from = append(from, w.source(t, pull.Way(r.IntN(3)), rest[:n]), pull.Slice{})
			rest = rest[n:]
		}
		for rest := len(data); rest > 0; {
			n := min(1+r.IntN(200_000), rest)
			s, b := w.target(t, []pull.Way{pull.R1, pull.R2, pull.R4}[r.IntN(3)], n)
			into, places = append(into, s), append(places, b)
			rest -= n
		}
		_, _, err := w.transfer(within(t, 20*time.Second), from, into)
		require.NoError(t, err)
		for _, b := range places {
			require.True(t, string(data[:len(b)]) == string(b), "round %d", round)
			data = data[len(b):]
		}
	}
	require.Greater(t, w.mine.card.Domain().Stats().Regions, capacity/(128<<10), "the slab is in parts")
}

// TestTransfersAmongTrims: many transfers at a time, each with contents checked, while both stores give back what they can and
// the caller registers and releases.
func TestTransfersAmongTrims(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Never))
	stop := make(chan struct{})
	var around, workers sync.WaitGroup
	spare := memory(t, 1<<20)
	for _, n := range []*node{w.mine, w.theirs} {
		around.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := n.store.Trim()
				g, failed := n.store.Register(addressOf(spare), uint64(len(spare)), registry.Options{})
				if failed == nil {
					failed = core.Unregister(context.Background(), g)
				}
				if err = errors.Join(err, failed); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for worker := range 4 {
		workers.Go(func() {
			for round := range 40 {
				if err := w.once(fmt.Sprint(worker), uint64(worker<<20+round)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	around.Wait()
	require.Zero(t, w.mine.Held())
}

// once puts an object, pulls it into a reservation, publishes that, and takes both away again.
func (w *world) once(key string, seed uint64) error {
	data := make([]byte, 100_000+seed%50_000)
	fill(data, seed)
	if _, err := w.theirs.store.Put([]byte(key), data, core.PutOptions{}); err != nil {
		return err
	}
	v, err := w.theirs.store.Get([]byte(key))
	if err != nil {
		return err
	}
	defer v.Release()
	room, err := w.mine.store.Reserve(uint64(len(data)))
	if err != nil {
		return err
	}
	defer room.Abort()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, _, err = w.transfer(ctx, []pull.Slice{{Addr: v.Addr(), Size: v.Size()}}, []pull.Slice{{Addr: room.Addr(), Size: room.Size(), Reserved: true}})
	if err != nil {
		return err
	}
	if _, err = room.Commit([]byte(key), tensor.DType{}, nil, core.PutOptions{}); err != nil {
		return err
	}
	got, err := w.mine.store.Get([]byte(key))
	if err != nil {
		return err
	}
	defer got.Release()
	if string(got.Bytes()) != string(data) {
		return errors.New("other bytes than were put")
	}
	return errors.Join(w.mine.store.Remove([]byte(key)), w.theirs.store.Remove([]byte(key)))
}

// TestTheSecondTimeRegistersNothing: whatever the memory is, unless it is to be registered each time.
func TestTheSecondTimeRegistersNothing(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Never))
	data := make([]byte, 300_000)
	fill(data, 1)
	var from, into []pull.Slice
	for _, way := range []pull.Way{pull.W0, pull.W1, pull.W2} {
		from = append(from, w.source(t, way, data))
	}
	for _, way := range []pull.Way{pull.R1, pull.R2, pull.R4} {
		s, _ := w.target(t, way, len(data))
		into = append(into, s)
	}
	_, _, err := w.transfer(within(t, 10*time.Second), from, into)
	require.NoError(t, err)
	before := rdma.Live()
	for range 10 {
		_, _, err = w.transfer(within(t, 10*time.Second), from, into)
		require.NoError(t, err)
	}
	require.Equal(t, before, rdma.Live())
}

// TestPolicies: what auto does follows from size and use; require refuses, and changes nothing.
func TestPolicies(t *testing.T) {
	w := newWorld(t, pull.Options{Model: cost.Model{RegisterFrom: 100_000}}, with(cost.Require))
	data := make([]byte, 200_000)
	fill(data, 1)
	from := w.source(t, pull.W1, data)
	small, b := w.target(t, pull.R4, 99_999)
	large, c := w.target(t, pull.R3, 100_001)
	_, got, err := w.transfer(within(t, 10*time.Second), []pull.Slice{from}, []pull.Slice{small, large})
	require.NoError(t, err)
	require.Equal(t, string(data), string(b)+string(c))
	require.EqualValues(t, 99_999, got.Bytes[pull.R4])
	require.EqualValues(t, 100_001, got.Bytes[pull.R3])

	before := rdma.Live()
	_, err = w.theirs.Offer([]pull.Slice{from, slice(data)}, 1)
	require.ErrorIs(t, err, cost.ErrNotRegistered)
	require.ErrorContains(t, err, "slice 1")
	partly := from
	partly.Size++
	_, err = w.theirs.Offer([]pull.Slice{partly}, 1)
	require.ErrorIs(t, err, cost.ErrNotRegistered, "one byte too many")
	require.Equal(t, before, rdma.Live())
}

// TestRegisteringFails: auto copies when locked memory is short, and only then; always says it.
func TestRegisteringFails(t *testing.T) {
	auto := pull.Options{Model: cost.Model{RegisterFrom: 1}}
	w := newWorld(t, auto, with(cost.Never))
	b := memory(t, 8192)
	into := []pull.Slice{slice(b)}
	w.f.Set(t, "reg_errno", int64(syscall.EIO))
	_, err := w.mine.Sink(into, 1)
	require.ErrorIs(t, err, syscall.EIO)
	w.f.Reset()
	read, err := w.mine.Sink(into, 1)
	require.NoError(t, err)
	require.Equal(t, only(pull.R3, 8192), read.Report().Bytes)
	require.NoError(t, read.Close())
	at := w.mine.at.Stats()
	require.Equal(t, at.Registered, at.Deregistered)

	lowerLimit(t)
	w.f.Set(t, "reg_after", 1)
	short, err := w.mine.Sink(into, 1)
	require.NoError(t, err)
	require.Equal(t, only(pull.R4, 8192), short.Report().Bytes)
	require.NoError(t, short.Close())
	always, err := pull.New(w.mine.store.Registry(), w.mine.at, with(cost.Always))
	require.NoError(t, err)
	w.f.Set(t, "reg_after", 1)
	_, err = always.Sink(into, 1)
	require.ErrorIs(t, err, registry.ErrMemlock)
	require.ErrorContains(t, err, "8192 were asked for")
}

// lowerLimit lets this process lock nothing, until the end of the test.
func lowerLimit(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
	t.Cleanup(func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) })
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: before.Max}))
}

// TestMemoryOfAStoreIsNotOverwritten: only what is reserved is a target, by whichever address it is named.
func TestMemoryOfAStoreIsNotOverwritten(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Never))
	object := w.mine.object(t, "k", make([]byte, 10_000))
	_, err := w.mine.Sink([]pull.Slice{object}, 1)
	require.ErrorIs(t, err, pull.ErrReadOnly)
	into, _ := w.mine.room(t, 10_000)
	into.Reserved = false
	_, err = w.mine.Sink([]pull.Slice{into}, 1)
	require.ErrorIs(t, err, pull.ErrReadOnly)
	beyond := pull.Slice{Addr: into.Addr, Size: capacity + 1, Reserved: true}
	before := pull.Slice{Addr: w.mine.store.Region().ReaderAddr(0) - 100, Size: 200}
	for _, s := range []pull.Slice{beyond, before} {
		_, err = w.mine.Sink([]pull.Slice{s}, 1)
		require.ErrorIs(t, err, pull.ErrInvalid)
		_, err = w.mine.Offer([]pull.Slice{s}, 1)
		require.ErrorIs(t, err, pull.ErrInvalid)
	}
}

func TestBadArguments(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Never))
	for _, bad := range [][]pull.Slice{{{Size: 1}}, {{Addr: 1 << 63, Size: 1 << 63}}, {{Addr: ^uintptr(0), Size: 2}},
		{{Addr: 4096, Size: 1 << 63}, {Addr: 4096, Size: 1 << 63}}} {
		_, err := w.mine.Sink(bad, 1)
		require.ErrorIs(t, err, pull.ErrInvalid, "%+v", bad)
		_, err = w.mine.Offer(bad, 1)
		require.ErrorIs(t, err, pull.ErrInvalid, "%+v", bad)
	}
	for _, o := range []pull.Options{{Chunk: -1}, {Chunk: 100}, {Chunk: 2 << 30}, {Chunks: -1}, {Chunks: 1 << 17},
		{Model: cost.Model{Policy: 9}}} {
		_, err := pull.New(w.mine.store.Registry(), w.mine.at, o)
		require.ErrorIs(t, err, pull.ErrInvalid, "%+v", o)
	}
	into, _ := w.target(t, pull.R1, 100)
	sink, err := w.mine.Sink([]pull.Slice{into}, 1)
	require.NoError(t, err)
	from := w.source(t, pull.W1, make([]byte, 101))
	offer, err := w.theirs.Offer([]pull.Slice{from}, 1)
	require.NoError(t, err)
	regions, err := offer.Next(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, sink.Pull(t.Context(), w.conn, regions), pull.ErrInvalid, "more than there is room for")
	require.ErrorIs(t, sink.Pull(t.Context(), w.back, regions), pull.ErrInvalid)
	regions[0].Length = 100
	require.ErrorIs(t, sink.Pull(t.Context(), w.back, regions), rdma.ErrInvalid, "a connection of another card")
	require.NoError(t, sink.Pull(t.Context(), w.conn, regions))
	require.Zero(t, sink.Left())
	require.NoError(t, errors.Join(sink.Close(), sink.Close(), offer.Close(), offer.Close()))
	require.ErrorIs(t, sink.Pull(t.Context(), w.conn, nil), pull.ErrClosed)
	_, err = offer.Next(t.Context())
	require.ErrorIs(t, err, pull.ErrClosed)
	nothing, err := w.mine.Sink(nil, 1)
	require.NoError(t, err)
	require.NoError(t, nothing.Close())
}

// TestAgainOverAnotherConnection: a window that failed half-way is read again, direct or through bounce buffers.
func TestAgainOverAnotherConnection(t *testing.T) {
	for _, way := range []pull.Way{pull.R1, pull.R4} {
		w := newWorld(t, with(cost.Never), with(cost.Never))
		data := make([]byte, 1<<20)
		fill(data, 1)
		offer, err := w.theirs.Offer([]pull.Slice{w.source(t, pull.W0, data)}, 1)
		require.NoError(t, err)
		into, b := w.target(t, way, len(data))
		sink, err := w.mine.Sink([]pull.Slice{into}, 1)
		require.NoError(t, err)
		regions, err := offer.Next(t.Context())
		require.NoError(t, err)
		w.f.Set(t, "fail_status", 12)
		w.f.Set(t, "fail_after", int64(5*one(way == pull.R4)))
		err = sink.Pull(within(t, 10*time.Second), w.conn, regions)
		require.ErrorIs(t, err, rdma.ErrPeerLost)
		require.True(t, rdma.Retryable(err))
		w.connect(t)
		require.NoError(t, sink.Pull(within(t, 10*time.Second), w.conn, regions))
		require.True(t, string(data) == string(b))
		require.NoError(t, errors.Join(sink.Close(), offer.Close()))
	}
}

// TestMemoryThatACardStillHas: when queue pairs cannot be destroyed the memory stays registered, and what waits for it waits,
// until they can.
func TestMemoryThatACardStillHas(t *testing.T) {
	for _, way := range []pull.Way{pull.R1, pull.R2, pull.R3, pull.R4} {
		t.Run(way.String(), func(t *testing.T) {
			w := newWorld(t, with(policyOf(way)), with(cost.Never))
			offer, err := w.theirs.Offer([]pull.Slice{w.source(t, pull.W1, make([]byte, 1000))}, 1)
			require.NoError(t, err)
			b := memory(t, 1000)
			into := slice(b)
			var g *registry.Registration
			switch way {
			case pull.R1:
				g, err = w.mine.store.Register(into.Addr, into.Size, registry.Options{})
				require.NoError(t, err)
			case pull.R2:
				into, _ = w.mine.room(t, 1000)
			}
			sink, err := w.mine.Sink([]pull.Slice{into}, 1)
			require.NoError(t, err)
			regions, err := offer.Next(t.Context())
			require.NoError(t, err)
			w.f.Set(t, "destroy_qp_errno", int64(syscall.EBUSY))
			w.f.Set(t, "no_flush", 1)
			w.f.Set(t, "drop", 100)
			require.ErrorIs(t, sink.Pull(within(t, 50*time.Millisecond), w.conn, regions), rdma.ErrQuarantined)
			before := w.mine.at.Stats()
			require.ErrorIs(t, sink.Close(), rdma.ErrQuarantined)
			require.Equal(t, 1, w.mine.Held())
			select {
			case <-sink.Free():
				t.Fatal("free while the card has it")
			case <-time.After(20 * time.Millisecond):
			}
			require.Equal(t, before.Deregistered, w.mine.at.Stats().Deregistered)
			if g != nil {
				require.ErrorIs(t, core.Unregister(within(t, time.Millisecond), g), core.ErrTimeout)
			}
			if way == pull.R4 {
				require.ErrorIs(t, w.mine.Endpoint.Close(within(t, time.Millisecond)), pull.ErrInUse)
			}
			if way == pull.R2 {
				done, ok := w.mine.store.Registry().Guard(0, capacity)
				require.False(t, ok, "its pages may go")
				_ = done
			}
			w.f.Reset()
			require.NoError(t, w.conn.Close())
			<-sink.Free()
			require.Zero(t, w.mine.Held())
			if g != nil {
				require.NoError(t, core.Unregister(within(t, time.Second), g))
			}
			require.NoError(t, offer.Close())
		})
	}
}

// TestOfferToAPeerThatIsGone: the memory is free when no queue pair is left, not before.
func TestOfferToAPeerThatIsGone(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Always))
	offer, err := w.theirs.Offer([]pull.Slice{w.source(t, pull.W3, make([]byte, 1000))}, 1)
	require.NoError(t, err)
	_, err = offer.Next(t.Context())
	require.NoError(t, err)
	ended := make(chan error, 1)
	offer.CloseWhenGone(w.back, func(err error) { ended <- err })
	require.Equal(t, 1, w.theirs.Held())
	require.Equal(t, uint64(1), w.theirs.at.Stats().Regions)
	select {
	case <-ended:
		t.Fatal("ended while the peer can read")
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, w.conn.Close())
	require.NoError(t, <-ended)
	require.Zero(t, w.theirs.Held())
	require.Zero(t, w.theirs.at.Stats().Regions)
}

// TestBounceBuffersAreBounded: whoever wants one waits, as long as its context allows; nobody waits for himself.
func TestBounceBuffersAreBounded(t *testing.T) {
	w := newWorld(t, with(cost.Never), pull.Options{Chunk: 4096, Chunks: 2})
	data := make([]byte, 20_000)
	fill(data, 1)
	from := []pull.Slice{w.source(t, pull.W2, data)}
	one, err := w.theirs.Offer(from, 1)
	require.NoError(t, err)
	two, err := w.theirs.Offer(from, 1)
	require.NoError(t, err)
	first, err := one.Next(within(t, 5*time.Second))
	require.NoError(t, err)
	require.Len(t, first, 2)
	_, err = two.Next(within(t, 10*time.Millisecond))
	require.ErrorContains(t, err, "wait for a bounce buffer")
	require.ErrorIs(t, w.theirs.Endpoint.Close(within(t, 10*time.Millisecond)), pull.ErrInUse)
	_, err = one.Next(t.Context())
	require.ErrorIs(t, err, pull.ErrClosed)
	require.NoError(t, one.Close())
	require.NoError(t, w.theirs.Endpoint.Close(t.Context()))
	require.Zero(t, w.theirs.at.Stats().Regions)
}

// TestRegisteringTellsNobody: neither the peer nor the card's queues hear of registrations.
func TestRegisteringTellsNobody(t *testing.T) {
	w := newWorld(t, with(cost.Never), with(cost.Never))
	words, posts := said.Load(), w.f.Get("posts")
	b := memory(t, 1<<20)
	for range 100 {
		g, err := w.mine.store.Register(addressOf(b), 1<<20, registry.Options{})
		require.NoError(t, err)
		require.NoError(t, core.Unregister(t.Context(), g))
	}
	require.EqualValues(t, 100, w.mine.at.Stats().Registered)
	require.Equal(t, words, said.Load())
	require.Equal(t, posts, w.f.Get("posts"))
}

// TestLocalCallsDoNotMeetTheCard: putting and getting in a store with a card registers nothing.
func TestLocalCallsDoNotMeetTheCard(t *testing.T) {
	w := newWorld(t, with(cost.Always), with(cost.Always))
	before := rdma.Live()
	for i := range 20 {
		w.mine.object(t, fmt.Sprint(i), make([]byte, 1<<uint(i)))
	}
	_, err := w.mine.store.Trim()
	require.NoError(t, err)
	require.Equal(t, before, rdma.Live())
}
