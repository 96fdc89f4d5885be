package rdma

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
)

func sampleHello() *hello {
	return &hello{linkLayer: ibv.LinkEthernet, mtu: 3, reads: 16, lid: 7, gid: ibv.GID{10: 0xff, 11: 0xff, 12: 10, 15: 1},
		epoch: 0x1122334455667788, maxMessage: 1 << 30, queues: []address{{0x123456, 0xabcdef}, {1, 0}},
		offers: []RemoteRegion{{Addr: 1 << 40, Length: 4096, RKey: 0xdeadbeef, Epoch: 0x1122334455667788}}}
}

func TestHelloRoundTrip(t *testing.T) {
	for _, h := range []*hello{
		sampleHello(),
		{linkLayer: ibv.LinkInfiniBand, mtu: 5, reads: 1, lid: 1, epoch: 1, maxMessage: 1, queues: []address{{1, 1}}},
	} {
		back, err := decodeHello(h.encode())
		require.NoError(t, err)
		require.Equal(t, h, back)
	}
}

func TestHelloBelievesNothing(t *testing.T) {
	spoil := func(at int, with ...byte) []byte {
		b := sampleHello().encode()
		copy(b[at:], with)
		return b
	}
	good := sampleHello().encode()
	for name, b := range map[string][]byte{
		"empty":           nil,
		"other protocol":  []byte("GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n......"),
		"other version":   spoil(4, 0, 2),
		"link layer":      spoil(6, 3),
		"mtu":             spoil(7, 6),
		"no mtu":          spoil(7, 0),
		"no reads":        spoil(8, 0),
		"many reads":      spoil(8, 17),
		"reserved":        spoil(9, 1),
		"no address":      spoil(12, make([]byte, 16)...),
		"no epoch":        spoil(28, make([]byte, 8)...),
		"no message":      spoil(36, 0, 0, 0, 0),
		"no queue":        spoil(40, 0, 0),
		"many queues":     spoil(40, 0, 17),
		"many regions":    spoil(42, 0xff, 0xff),
		"one more queue":  spoil(40, 0, 3),
		"queue number 0":  spoil(44, 0, 0, 0, 0),
		"queue number":    spoil(44, 1, 0, 0, 0),
		"sequence":        spoil(48, 1, 0, 0, 0),
		"empty region":    spoil(60+8, make([]byte, 8)...),
		"wrapping region": spoil(60, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"cut":             good[:len(good)-1],
		"longer":          append(bytes.Clone(good), 0),
	} {
		_, err := decodeHello(b)
		require.ErrorIs(t, err, ErrProtocol, name)
	}
	_, err := decodeHello(good)
	require.NoError(t, err)
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, writeFrame(&b, frameRefuse, []byte("\x00no \x1b[31mroom")))
	_, err := readKind(bytes.NewReader(b.Bytes()), frameHello)
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, `no \x1b[31mroom`, "quoted")
	b.Reset()
	require.NoError(t, refuse(&b, ErrPeerLost))
	_, err = readKind(&b, frameHello)
	require.True(t, Retryable(err), "it may work next time")
	require.NoError(t, refuse(&b, ErrInvalid))
	_, err = readKind(&b, frameHello)
	require.False(t, Retryable(err))
	_, err = readKind(bytes.NewReader([]byte{0, 0, 0, 1, frameRefuse}), frameHello)
	require.ErrorIs(t, err, ErrRefused)
	_, err = readKind(bytes.NewReader([]byte{0, 0, 0, 1, 9}), frameHello)
	require.ErrorIs(t, err, ErrProtocol)
	for _, head := range [][]byte{{0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 1}, binary.BigEndian.AppendUint32(nil, maxFrame+1)} {
		_, _, err = readFrame(bytes.NewReader(append(head, 1)))
		require.ErrorIs(t, err, ErrProtocol)
	}
	_, _, err = readFrame(bytes.NewReader([]byte{0, 0, 0, 9, 1, 2}))
	require.Error(t, err)
}

func FuzzHello(f *testing.F) {
	f.Add(sampleHello().encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			require.ErrorIs(t, err, ErrProtocol)
			return
		}
		require.Equal(t, b, h.encode(), "what is accepted has one form")
		for _, q := range h.queues {
			require.Less(t, q.number, uint32(1<<24))
		}
		for _, r := range h.offers {
			require.GreaterOrEqual(t, r.Addr+r.Length, r.Addr)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, frameBye})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		require.NoError(t, writeFrame(&again, kind, body))
		require.Equal(t, b[:again.Len()], again.Bytes())
	})
}
