//go:build linux

package rdma_test

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core"
	"moorage/core/cost"
	"moorage/core/pull"
	"moorage/core/registry"
	"moorage/core/tensor"
	"moorage/core/verbs"
	"moorage/rdma"
)

const longestWait = 20 * time.Second

// buyer is this process, with a store and a card of its own, and a connection to a seller.
type buyer struct {
	*endpoints
	t    *testing.T
	peer *peer
	conn *rdma.Conn
}

func newBuyer(t *testing.T) *buyer {
	t.Helper()
	library(t)
	e, err := openEndpoints()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.close())
		require.NoError(t, e.gone())
	})
	p := startPeerAs(t, "store")
	return &buyer{endpoints: e, t: t, peer: p, conn: p.connect(e.card.Domain(), rdma.ConnOptions{})}
}

// buy pulls all that the peer offers into a slice.
func (b *buyer) buy(way pull.Way, into pull.Slice) pull.Report {
	b.t.Helper()
	sink, err := b.by[policyFor(way)].Sink([]pull.Slice{into}, 1)
	require.NoError(b.t, err)
	for {
		answer := b.peer.ask("next")
		if answer == "end" {
			break
		}
		raw, err := hex.DecodeString(answer)
		require.NoError(b.t, err)
		var window []rdma.RemoteRegion
		for at := 0; at < len(raw); at += 28 {
			r, err := rdma.ParseRemoteRegion(raw[at : at+28])
			require.NoError(b.t, err)
			window = append(window, r)
		}
		require.NoError(b.t, sink.Pull(within(b.t, longestWait), b.conn, window))
	}
	require.Zero(b.t, sink.Left())
	require.NoError(b.t, sink.Close())
	b.peer.ask("forget")
	return sink.Report()
}

// place is memory of the kind that a way leads into.
func (b *buyer) place(way pull.Way, size int) (pull.Slice, func() []byte) {
	b.t.Helper()
	if way == pull.R2 {
		w, err := b.store.Reserve(uint64(size))
		require.NoError(b.t, err)
		b.t.Cleanup(w.Abort) // nothing, when it was committed
		return pull.Slice{Addr: w.Addr(), Size: uint64(size), Reserved: true}, func() []byte {
			key := fmt.Sprintf("%x", w.Addr())
			_, err := w.Commit([]byte(key), tensor.DType{}, nil, core.PutOptions{})
			require.NoError(b.t, err)
			v, err := b.store.Get([]byte(key))
			require.NoError(b.t, err)
			defer v.Release()
			seen := append([]byte(nil), v.Bytes()...)
			require.NoError(b.t, b.store.Remove([]byte(key)))
			return seen
		}
	}
	m := memory(b.t, size)
	if way == pull.R1 {
		g, err := b.store.Register(addressOf(m), uint64(size), registry.Options{})
		require.NoError(b.t, err)
		b.t.Cleanup(func() { require.NoError(b.t, core.Unregister(within(b.t, longestWait), g)) })
	}
	return pull.Slice{Addr: addressOf(m), Size: uint64(size)}, func() []byte { return m }
}

// theirs is how often the peer has registered anything.
func (b *buyer) theirs() (n int) {
	_, err := fmt.Sscan(b.peer.ask("counts"), &n)
	require.NoError(b.t, err)
	return n
}

func (b *buyer) mine() int { return int(rdma.Live().Registrations) }

// TestWays: from each kind of memory of one process into each kind of another's, the bytes and what was registered for them.
func TestWays(t *testing.T) {
	const size = 600<<10 + 13
	want := make([]byte, size)
	pattern(want, 5)
	b := newBuyer(t)
	b.peer.ask(fmt.Sprint("put k ", size, " 5"))
	require.Zero(t, b.theirs(), "to put registers nothing")
	first := map[pull.Way]bool{}
	for out := pull.W0; out <= pull.W3; out++ {
		for in := pull.R1; in <= pull.R4; in++ {
			into, seen := b.place(in, size)
			mine, theirs := b.mine(), b.theirs()
			b.peer.ask(fmt.Sprintf("offer %d %d 5", out, size))
			began := time.Now()
			got := b.buy(in, into)
			t.Logf("%v to %v: %v", out, in, time.Since(began))
			require.True(t, string(want) == string(seen()), "%v to %v", out, in)
			require.EqualValues(t, size, got.Bytes[in], "%v to %v", out, in)
			// Registered on the fly each time, slabs and bounce buffers the first time; the peer registers what W1 is about itself.
			require.Equal(t, one(in == pull.R3 || in != pull.R1 && !first[in]), b.mine()-mine, "%v to %v", out, in)
			require.Equal(t, one(out == pull.W3 || out == pull.W1 || !first[out]), b.theirs()-theirs, "%v to %v", out, in)
			first[in], first[out] = true, true
		}
	}
}

func one(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

// TestAgainRegistersNothing: from and into registered memory, and memory of the store.
func TestAgainRegistersNothing(t *testing.T) {
	b := newBuyer(t)
	b.peer.ask("put k 100000 1")
	r1, _ := b.place(pull.R1, 100000)
	r2, _ := b.place(pull.R2, 100000)
	for i, c := range []struct {
		way  pull.Way
		into pull.Slice
	}{{pull.R1, r1}, {pull.R2, r2}, {pull.R1, r1}, {pull.R2, r2}} {
		mine, theirs := b.mine(), b.theirs()
		b.peer.ask("offer 0 0 0")
		b.buy(c.way, c.into)
		if i >= 2 {
			require.Equal(t, mine, b.mine())
			require.Equal(t, theirs, b.theirs())
		}
	}
}

// TestTrimBetweenTransfers: pages of a slab that the card knew are given back and written again. Whoever reads sees the new bytes,
// on both sides: in what is pulled from such a slab, and in what is pulled into one.
func TestTrimBetweenTransfers(t *testing.T) {
	const size = 1 << 20
	b := newBuyer(t)
	for seed := uint64(1); seed <= 2; seed++ {
		want := make([]byte, size)
		pattern(want, seed)
		b.peer.ask(fmt.Sprint("put k ", size, " ", seed))
		into, seen := b.place(pull.R2, size)
		b.peer.ask("offer 0 0 0")
		b.buy(pull.R2, into)
		require.True(t, string(want) == string(seen()), "time %d: bytes from before", seed)

		b.peer.ask("remove k")
		freed := 0
		_, err := fmt.Sscan(b.peer.ask("trim"), &freed)
		require.NoError(t, err)
		require.GreaterOrEqual(t, freed, size, "it is given back although the card had it")
		mine, err := b.store.Trim()
		require.NoError(t, err)
		require.GreaterOrEqual(t, mine, uint64(size))
	}
	require.Zero(t, b.store.Registry().Stats().SlabBytes)
}

// TestTransfersInAStorm: both stores give back their free pages all the time, and register and release other memory; what is
// transferred meanwhile arrives.
func TestTransfersInAStorm(t *testing.T) {
	b := newBuyer(t)
	b.peer.ask("storm")
	calm := b.storm()
	for seed := uint64(1); seed <= 4; seed++ {
		want := make([]byte, 200<<10)
		pattern(want, seed)
		b.peer.ask(fmt.Sprint("put k ", len(want), " ", seed))
		into, seen := b.place(pull.R2, len(want))
		b.peer.ask("offer 0 0 0")
		b.buy(pull.R2, into)
		require.True(t, string(want) == string(seen()), "transfer %d", seed)
		b.peer.ask("remove k")
	}
	require.NoError(t, calm())
	b.peer.ask("calm")
}

// TestFiguresOfTheCard: measuring takes a moment, and leaves nothing registered.
func TestFiguresOfTheCard(t *testing.T) {
	b := newBuyer(t)
	live := rdma.Live().MRs
	f, err := b.card.Figures(tensor.CopyGo)
	require.NoError(t, err)
	require.Equal(t, live, rdma.Live().MRs)
	require.Positive(t, f.Register.Fixed+f.Register.PerByte)
	require.Positive(t, f.Copy.PerByte)
	t.Logf("took %v\n%s", f.Took, cost.Model{Figures: f}.Explain())
}

// TestListOfCards: what doctor and the bindings show.
func TestListOfCards(t *testing.T) {
	library(t)
	all := listed(t)
	require.NotEmpty(t, all)
	require.True(t, all[0].Active)
	require.Equal(t, "Ethernet", all[0].Link)
}

func listed(t *testing.T) []verbs.Info {
	all, err := verbs.List()
	require.NoError(t, err)
	return all
}
