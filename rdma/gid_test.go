package rdma

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
)

func at(index int, addr string, kind uint32, networks ...string) candidate {
	c := candidate{index: index, kind: kind, up: true, gid: netip.MustParseAddr(addr).As16()}
	for _, n := range networks {
		c.networks = append(c.networks, netip.MustParsePrefix(n))
	}
	return c
}

func TestRankGIDs(t *testing.T) {
	const v1, v2 = ibv.GIDTypeRoCEv1, ibv.GIDTypeRoCEv2
	down := at(9, "10.9.0.1", v2)
	down.up = false
	bridge := at(10, "172.17.0.1", v2, "172.17.0.0/16")
	bridge.virtual = true
	for _, tc := range []struct {
		name        string
		all         []candidate
		local, peer string
		want        []int
	}{
		{"the control connection's own first",
			[]candidate{at(0, "fe80::1", v2), at(1, "10.1.0.1", v2), at(2, "10.2.0.1", v2)}, "10.2.0.1", "10.2.0.9", []int{2, 1}},
		{"never RoCE v1", []candidate{at(0, "10.1.0.1", v1), at(1, "10.1.0.1", v2)}, "10.1.0.1", "10.1.0.2", []int{1}},
		{"the peer's network before others",
			[]candidate{at(0, "10.1.0.1", v2, "10.1.0.0/16"), at(1, "10.2.0.1", v2, "10.2.0.0/16")}, "192.0.2.1", "10.2.7.7", []int{1, 0}},
		{"IPv4 before IPv6", []candidate{at(0, "fd00::1", v2), at(1, "172.20.0.1", v2)}, "192.0.2.1", "192.0.2.2", []int{1, 0}},
		{"private networks are as good as any", []candidate{at(0, "10.0.0.1", v2)}, "192.0.2.1", "192.0.2.2", []int{0}},
		{"bridges after all others", []candidate{bridge, at(1, "2001:db8::1", v2)}, "192.0.2.1", "172.17.0.2", []int{1, 10}},
		{"an interface that is down", []candidate{down, at(1, "10.1.0.1", v2)}, "192.0.2.1", "10.9.0.2", []int{1}},
		{"link-local when there is nothing else", []candidate{at(0, "fe80::1", v2)}, "192.0.2.1", "192.0.2.2", []int{0}},
		{"link-local for a link-local peer",
			[]candidate{at(0, "fe80::1", v2), at(1, "fe80::2", v2), at(2, "fd00::1", v2)}, "fe80::2%eth0", "fe80::9%eth0", []int{1, 2}},
		{"mapped addresses", []candidate{at(0, "10.1.0.1", v2), at(1, "10.2.0.1", v2)}, "::ffff:10.2.0.1", "::ffff:10.2.0.2", []int{1, 0}},
		{"empty entries", []candidate{{kind: v2, up: true}}, "192.0.2.1", "192.0.2.2", nil},
		{"a pipe instead of TCP", []candidate{at(3, "10.1.0.1", v2)}, "", "", []int{3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var local, peer netip.Addr
			if tc.local != "" {
				local, peer = netip.MustParseAddr(tc.local), netip.MustParseAddr(tc.peer)
			}
			var got []int
			for _, c := range rankGIDs(tc.all, local, peer) {
				got = append(got, c.index)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestGIDByName(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0", DomainOptions{GID: "::ffff:127.0.0.1"}), open(t, f, "fake1", DomainOptions{GID: "127.0.0.2"})
	connect(t, a, b, ConnOptions{}, ConnOptions{})
	c := open(t, f, "fake0", DomainOptions{GID: "127.0.0.9"})
	_, _, erra, errb := tryConnect(t, c, b, ConnOptions{}, ConnOptions{})
	require.ErrorIs(t, erra, ErrInvalid)
	require.ErrorContains(t, erra, "127.0.0.9")
	require.ErrorIs(t, errb, ErrRefused)
}

// An address from which no way can be set up is not tried first again, by either end.
func TestNextGID(t *testing.T) {
	f := provider(t)
	f.Set(t, "gids", 2)
	f.Set(t, "bad_gid", 1)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	_, _, erra, errb := tryConnect(t, a, b, ConnOptions{}, ConnOptions{})
	require.ErrorIs(t, errb, ErrPeerLost)
	require.ErrorIs(t, errb, syscall.ETIMEDOUT)
	require.ErrorContains(t, errb, "from 127.0.0.2 to 127.0.0.1")
	require.ErrorContains(t, erra, "refused this time")
	require.True(t, Retryable(erra))
	_, _, erra, _ = tryConnect(t, a, b, ConnOptions{}, ConnOptions{})
	require.ErrorContains(t, erra, "from 127.0.0.1 to 127.0.1.2", "now it is the other end that finds out")
	connect(t, a, b, ConnOptions{}, ConnOptions{})
}

func TestOnlyRoCEv1(t *testing.T) {
	f := provider(t)
	f.Set(t, "gid_type", ibv.GIDTypeRoCEv1)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	_, _, err, _ := tryConnect(t, a, b, ConnOptions{}, ConnOptions{})
	require.ErrorContains(t, err, "RoCE v2")
}

// A library that is too old to tell types: the kernel's files do.
func TestGIDsFromFiles(t *testing.T) {
	f := provider(t)
	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	root := t.TempDir()
	for _, d := range []*Domain{a, b} {
		d.library.sysfs = root
		for kind, content := range map[string]string{"types": "RoCE v2\n", "ndevs": "lo\n"} {
			folder := filepath.Join(root, d.name, "ports", "1", "gid_attrs", kind)
			require.NoError(t, os.MkdirAll(folder, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "1"), []byte(content), 0o600))
		}
	}
	e, err := a.library.gidFromSysfs(a, 1)
	require.NoError(t, err)
	require.EqualValues(t, ibv.GIDTypeRoCEv2, e.Type)
	require.NotZero(t, e.Ifindex)
	_, err = a.library.gidFromSysfs(a, 0)
	require.ErrorIs(t, err, syscall.Errno(61))
	f.Set(t, "gid_errno", int64(syscall.ENOSYS))
	connect(t, a, b, ConnOptions{}, ConnOptions{})
}

func TestInfiniBand(t *testing.T) {
	f := provider(t)
	f.Set(t, "link_layer", ibv.LinkInfiniBand)
	p := newPair(t, 4096, ConnOptions{}, func(f *fake) { f.Set(t, "link_layer", ibv.LinkInfiniBand) })
	require.NoError(t, p.ab.Read(within(t, time.Second), p.whole()))
	require.Equal(t, p.from, p.to)

	// Another subnet is reached through its global address.
	mine, e := &hello{linkLayer: ibv.LinkInfiniBand, gid: ibv.GID{0: 0xfe, 1: 0x80}}, end{}
	c := &Conn{domain: p.a, peer: &hello{lid: 3, gid: ibv.GID{0: 0xfe, 1: 0xc0, 15: 1}}}
	require.EqualValues(t, 1, c.route(mine, e).IsGlobal)
	c.peer.gid = ibv.GID{0: 0xfe, 1: 0x80, 15: 1}
	require.EqualValues(t, 0, c.route(mine, e).IsGlobal)
	require.EqualValues(t, 3, c.route(mine, e).DLID)
}
