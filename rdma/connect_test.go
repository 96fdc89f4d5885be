package rdma

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
)

func TestBadConnOptions(t *testing.T) {
	d := open(t, provider(t), "", DomainOptions{})
	for _, o := range []ConnOptions{
		{QueuePairs: -1}, {QueuePairs: 17}, {Depth: -1}, {Depth: 1<<14 + 1}, {AckTimeout: 32}, {Retries: 7}, {Retries: -1},
		{ServiceLevel: 16}, {TrafficClass: 256}, {Timeout: -1}, {Handshake: -1}, {Offers: make([]RemoteRegion, 1025)},
	} {
		control, other := net.Pipe()
		_, err := d.Connect(t.Context(), control, o)
		require.ErrorIs(t, err, ErrInvalid, "%+v", o)
		_, err = other.Write([]byte{0})
		require.Error(t, err, "closed")
		_, err = d.NewLink(nil, o)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

func TestOffers(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	from := memory(t, 4096)
	fill(from)
	source := register(t, b, from, RemoteRead)
	to := memory(t, 4096)
	target := register(t, a, to, LocalTarget)
	ca, cb := connect(t, a, b, ConnOptions{}, ConnOptions{Offers: []RemoteRegion{source.Remote()}})
	require.Equal(t, []RemoteRegion{source.Remote()}, ca.Offers())
	require.Empty(t, cb.Offers())
	require.Equal(t, b.Epoch(), ca.PeerEpoch())
	require.NoError(t, ca.Read(within(t, time.Second), []Read{{To: target, From: ca.Offers()[0], Length: 4096}}))
	require.Equal(t, from, to)
}

// Whatever the other end says or does not say: an error in time, and nothing is left.
func TestHostilePeers(t *testing.T) {
	f := provider(t)
	d := open(t, f, "", DomainOptions{})
	infiniBand := sampleHello()
	infiniBand.linkLayer = ibv.LinkInfiniBand
	short := sampleHello()
	short.queues = short.queues[:1]
	for name, tc := range map[string]struct {
		say  func(net.Conn)
		want error
	}{
		"silence":         {func(net.Conn) {}, os.ErrDeadlineExceeded},
		"end":             {func(c net.Conn) { _ = c.Close() }, ErrPeerLost},
		"another tongue":  {func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, ErrProtocol},
		"refusal":         {func(c net.Conn) { _ = writeFrame(c, frameRefuse, []byte("no")) }, ErrRefused},
		"ready too early": {func(c net.Conn) { _ = writeFrame(c, frameReady, nil) }, ErrProtocol},
		"nonsense":        {func(c net.Conn) { _ = writeFrame(c, frameHello, []byte("x")) }, ErrProtocol},
		"other link":      {func(c net.Conn) { _ = writeFrame(c, frameHello, infiniBand.encode()) }, ErrRefused},
		"half a message":  {func(c net.Conn) { _, _ = c.Write([]byte{0, 0, 0, 99, frameHello}) }, os.ErrDeadlineExceeded},
	} {
		for side, shake := range map[string]func(context.Context, net.Conn, ConnOptions) (*Conn, error){"connect": d.Connect, "accept": d.Accept} {
			mine, theirs := ends(t)
			go tc.say(theirs)
			_, err := shake(t.Context(), mine, ConnOptions{Handshake: 100 * time.Millisecond})
			require.ErrorIs(t, err, tc.want, "%s, %s", name, side)
			_ = theirs.Close()
		}
	}
	mine, theirs := ends(t)
	go func() { _ = writeFrame(theirs, frameHello, short.encode()) }()
	_, err := d.Connect(t.Context(), mine, ConnOptions{QueuePairs: 2})
	require.ErrorIs(t, err, ErrProtocol, "fewer queue pairs than asked for")
	_ = theirs.Close()
}

func TestConnectEndsWithItsContext(t *testing.T) {
	d := open(t, provider(t), "", DomainOptions{})
	mine, theirs := ends(t)
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	_, err := d.Connect(ctx, mine, ConnOptions{})
	require.Error(t, err)
	require.Less(t, time.Since(began), 5*time.Second)
}

// The side that refuses says why, and the other side tells its caller.
func TestRefusalSaysWhy(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{GID: "192.0.2.7"})
	_, _, erra, errb := tryConnect(t, a, b, ConnOptions{}, ConnOptions{})
	require.ErrorIs(t, errb, ErrInvalid)
	require.ErrorIs(t, erra, ErrRefused)
	require.ErrorContains(t, erra, "192.0.2.7")
}

func TestPeerThatBreaksTheProtocolLater(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	require.NoError(t, writeFrame(p.ba.control, frameReady, nil))
	await(t, p.ab.Gone())
	require.ErrorIs(t, p.ab.Err(), ErrProtocol)
}

// A peer that vanishes takes its control connection with it; what it might have read can be used again after Gone.
func TestPeerVanishes(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	_ = p.ab.control.Close()
	await(t, p.ba.Gone())
	require.ErrorIs(t, p.ba.Err(), ErrPeerLost)
	require.NoError(t, p.source.Close(within(t, time.Second)))
}

// A domain that is closed meanwhile waits for calls under way, and lets no new ones in.
func TestCloseWaitsForConnect(t *testing.T) {
	d := open(t, provider(t), "", DomainOptions{})
	mine, theirs := ends(t)
	defer theirs.Close()
	connected := make(chan error, 1)
	go func() {
		_, err := d.Connect(context.Background(), mine, ConnOptions{Handshake: 100 * time.Millisecond})
		connected <- err
	}()
	_, _, err := readFrame(theirs) // it has greeted
	require.NoError(t, err)
	require.NoError(t, d.Close())
	select {
	case err := <-connected:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(5 * time.Second):
		t.Fatal("closed under a call")
	}
}
