package verbs

import (
	"context"
	"math"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/registry"
	"moorage/rdma"
)

// connect connects two cards, a to b.
func connect(t *testing.T, a, b *Device) (*rdma.Conn, *rdma.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	type answer struct {
		c   *rdma.Conn
		err error
	}
	done := make(chan answer, 1)
	go func() {
		control, err := l.Accept()
		if err != nil {
			done <- answer{nil, err}
			return
		}
		c, err := b.Domain().Accept(context.Background(), control, rdma.ConnOptions{})
		done <- answer{c, err}
	}()
	control, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	ab, err := a.Domain().Connect(t.Context(), control, rdma.ConnOptions{})
	require.NoError(t, err)
	ba := <-done
	require.NoError(t, ba.err)
	return ab, ba.c
}

func TestPartSize(t *testing.T) {
	for most, want := range map[uint64]uintptr{
		0: 4096, 1: 4096, 5000: 4096, 64 << 10: 64 << 10, 1<<20 + 1: 1 << 20, 3<<20 + 7: 2 << 20, 8<<20 + 4096: 8 << 20,
		1<<31 - 1: 1 << 30, 1 << 40: 1 << 40, math.MaxUint64: 1 << 62,
	} {
		require.Equal(t, want, partSize(most), "%d", most)
	}
}

// TestPiecesOfARange: what is longer than the card takes is registered in parts, and what is read into it across their borders
// arrives. The mapping through which it was registered is gone by then.
func TestPiecesOfARange(t *testing.T) {
	f := provider(t)
	f.Set(t, "max_mr_size", 64<<10)
	a, b := open(t, f, "fake0"), open(t, f, "fake1")
	ab, _ := connect(t, a, b)
	const size = 200 << 10
	to, file := shared(t, size)
	again := view(t, file, size)
	from, _ := shared(t, size)
	for i := range from {
		from[i] = byte(i * 7 >> 3)
	}
	renamed := f.Get("renamed")
	r, err := a.Register(addressOf(again), addressOf(to), size, registry.Receive)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(again))
	source, err := b.Register(addressOf(from), addressOf(from), size, registry.Send)
	require.NoError(t, err)
	target := r.(*Region)
	require.Len(t, target.parts, 4)
	require.Equal(t, renamed+4, f.Get("renamed"))
	require.Equal(t, 4, a.Domain().Stats().Regions)

	const off, n = 60<<10 + 5, 100 << 10
	into := target.Slices(addressOf(to)+off, n, nil)
	out := source.(*Region).Slices(addressOf(from)+off, n, nil)
	require.Len(t, into, 3)
	require.Equal(t, []uint64{60<<10 + 5, 0, 0}, []uint64{into[0].Offset, into[1].Offset, into[2].Offset})
	require.Equal(t, []uint64{4<<10 - 5, 64 << 10, 32<<10 + 5}, []uint64{into[0].Length, into[1].Length, into[2].Length})
	var reads []rdma.Read
	for i, s := range into {
		require.EqualValues(t, int(out[i].Offset), s.Offset)
		reads = append(reads, rdma.Read{To: s.Part, ToOffset: s.Offset, From: out[i].Remote(), Length: s.Length})
	}
	require.EqualValues(t, addressOf(from)+off, reads[0].From.Addr)
	require.NoError(t, ab.Read(t.Context(), reads))
	require.True(t, string(from[off:off+n]) == string(to[off:off+n]))
	require.Zero(t, to[off-1])
	require.Zero(t, to[off+n])
	require.NoError(t, r.Deregister())
	require.NoError(t, source.Deregister())
	require.Zero(t, a.Domain().Stats().Regions)
}

// TestUseDecidesTheRights: what only receives cannot be read by a peer, what only sends is no target.
func TestUseDecidesTheRights(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0"), open(t, f, "fake1")
	m, _ := shared(t, 8192)
	at := addressOf(m)
	for _, c := range []struct {
		mine, theirs registry.Use
		ok           error
	}{
		{registry.Receive, registry.Send, nil}, {registry.Send | registry.Receive, registry.Send | registry.Receive, nil},
		{registry.Send, registry.Send, rdma.ErrInvalid}, {registry.Receive, registry.Receive, rdma.ErrRemoteAccess},
	} {
		ab, _ := connect(t, a, b)
		to, err := a.Register(at, at, 4096, c.mine)
		require.NoError(t, err)
		from, err := b.Register(at+4096, at+4096, 4096, c.theirs)
		require.NoError(t, err)
		err = ab.Read(t.Context(), []rdma.Read{{To: to.(*Region).parts[0], From: from.(*Region).parts[0].Remote(), Length: 4096}})
		require.ErrorIs(t, err, c.ok)
		require.NoError(t, to.Deregister())
		require.NoError(t, from.Deregister())
		require.NoError(t, ab.Close())
	}
	_, err := a.Register(at, at, 4096, 0)
	require.ErrorIs(t, err, registry.ErrInvalid)
	_, err = a.Register(at, at+1, 4096, registry.Send)
	require.ErrorIs(t, err, registry.ErrInvalid, "another place in the page")
}

// TestPartlyRefused: when one part is refused, none stays.
func TestPartlyRefused(t *testing.T) {
	f := provider(t)
	f.Set(t, "max_mr_size", 64<<10)
	d := open(t, f, "")
	m, _ := shared(t, 1<<20)
	f.Set(t, "reg_after", 5)
	_, err := d.Register(addressOf(m), addressOf(m), 1<<20, registry.Receive)
	require.ErrorIs(t, err, syscall.ENOMEM)
	require.Zero(t, d.Domain().Stats().Regions)
	r, err := d.Register(addressOf(m), addressOf(m), 1<<20, registry.Receive)
	require.NoError(t, err)
	require.Equal(t, 16, d.Domain().Stats().Regions)
	require.NoError(t, r.Deregister())
}

// TestRefusalToDeregister: nobody reaches the memory any more, because nobody reaches the card.
func TestRefusalToDeregister(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0"), open(t, f, "fake1")
	ab, ba := connect(t, a, b)
	m, _ := shared(t, 4096)
	r, err := b.Register(addressOf(m), addressOf(m), 4096, registry.Send)
	require.NoError(t, err)
	f.Set(t, "dereg_errno", int64(syscall.EBUSY))
	require.ErrorIs(t, r.Deregister(), rdma.ErrQuarantined)
	select {
	case <-ba.Gone():
	default:
		t.Fatal("a connection is left")
	}
	require.ErrorIs(t, ba.Err(), rdma.ErrDevice)
	<-ab.Gone()
	_, err = b.Register(addressOf(m), addressOf(m), 4096, registry.Send)
	require.ErrorIs(t, err, rdma.ErrDevice)
	require.ErrorContains(t, err, "given up")
	control, other := net.Pipe()
	defer other.Close()
	_, err = b.Domain().Accept(t.Context(), control, rdma.ConnOptions{})
	require.ErrorIs(t, err, rdma.ErrDevice)
}

// TestGiveUpWaitsForHandshakes: no connection comes into being behind it.
func TestGiveUpWaitsForHandshakes(t *testing.T) {
	f := provider(t)
	d := open(t, f, "")
	control, other := net.Pipe()
	accepted := make(chan error, 1)
	go func() {
		_, err := d.Domain().Accept(context.Background(), control, rdma.ConnOptions{})
		accepted <- err
	}()
	time.Sleep(10 * time.Millisecond)
	given := make(chan error, 1)
	go func() { given <- d.Domain().GiveUp(syscall.EBUSY) }()
	select {
	case err := <-given:
		t.Fatalf("given up during a handshake: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, other.Close())
	require.Error(t, <-accepted)
	require.NoError(t, <-given)
}

func TestListAndOpen(t *testing.T) {
	f := provider(t)
	all, err := List()
	require.NoError(t, err)
	require.Equal(t, []Info{
		{Name: "fake0", Firmware: "fake", NUMANode: -1, Port: 1, Link: "Ethernet", Active: true},
		{Name: "fake1", Firmware: "fake", NUMANode: -1, Port: 1, Link: "Ethernet", Active: true},
	}, all)
	f.Set(t, "port_state", 1)
	f.Set(t, "link_layer", 1)
	all, err = List()
	var why *rdma.UnavailableError
	require.ErrorAs(t, err, &why)
	require.Equal(t, rdma.NoActivePort, why.Reason)
	require.Equal(t, Info{Name: "fake0", Firmware: "fake", NUMANode: -1, Port: 1, Link: "InfiniBand"}, all[0])
	_, err = Open("", Options{})
	require.ErrorIs(t, err, rdma.ErrUnavailable)
	f.Reset()
	f.Set(t, "open_errno", int64(syscall.EACCES))
	all, err = List()
	require.ErrorAs(t, err, &why)
	require.Equal(t, rdma.NoPermission, why.Reason)
	require.ErrorIs(t, all[1].Err, syscall.EACCES)
	f.Reset()
	_, err = Open("nonsense", Options{})
	require.ErrorIs(t, err, rdma.ErrInvalid)
	require.ErrorContains(t, err, "nonsense")
	require.Equal(t, "fake1", open(t, f, "fake1").Name())
	t.Setenv("MOORAGE_LIBIBVERBS", "/nowhere/libibverbs.so")
	_, err = List()
	require.ErrorAs(t, err, &why)
	require.Equal(t, rdma.NoLibrary, why.Reason)
	_, err = Open("", Options{})
	require.ErrorAs(t, err, &why)
}

// TestPorts: of several ports the first with a link counts.
func TestPorts(t *testing.T) {
	for _, c := range []struct {
		ports []rdma.Port
		want  Info
	}{
		{nil, Info{}},
		{[]rdma.Port{{Number: 1}, {Number: 2}}, Info{Port: 1, Link: "Ethernet"}},
		{[]rdma.Port{{Number: 1}, {Number: 2, Active: true, InfiniBand: true}, {Number: 3, Active: true}},
			Info{Port: 2, Link: "InfiniBand", Active: true}},
	} {
		require.Equal(t, c.want, describe(rdma.Device{Ports: c.ports}))
	}
}
