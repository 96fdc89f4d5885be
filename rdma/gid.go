package rdma

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"moorage/rdma/internal/ibv"
)

// candidate is an address of a port, with what is known of the network interface behind it.
type candidate struct {
	index    int
	gid      ibv.GID
	kind     uint32
	up       bool
	virtual  bool           // a bridge of containers or virtual machines
	networks []netip.Prefix // of the interface
}

func (c candidate) addr() netip.Addr { return netip.AddrFrom16(c.gid).Unmap() }

// parseGID reads an address as a user writes it. The empty text is no address.
func parseGID(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, invalidf("GID %q is not an address: %v", text, err)
	}
	return a.Unmap().WithZone(""), nil
}

// rankGIDs puts the addresses of an Ethernet port that lead to a peer into the order in which to use them: that of our end of the
// control connection, then IPv4 in the peer's network, other IPv4, global and unique local IPv6, and link-local only for a
// link-local control connection or when there is nothing else. RoCE v1 is not routed and never used, and a private IPv4 network
// is as good as any.
func rankGIDs(all []candidate, local, peer netip.Addr) []candidate {
	local, peer = local.Unmap().WithZone(""), peer.Unmap().WithZone("")
	rank := func(c candidate) int {
		a := c.addr()
		near := slices.ContainsFunc(c.networks, func(p netip.Prefix) bool { return p.Contains(peer) })
		switch {
		case a == local:
			return 0
		case a.Is4() && near && !c.virtual:
			return 1
		case a.Is4() && !c.virtual:
			return 2
		case a.IsLinkLocalUnicast():
			return 5
		case !c.virtual:
			return 3
		}
		return 4
	}
	var usable []candidate
	for _, c := range all {
		if c.kind == ibv.GIDTypeRoCEv2 && c.gid != (ibv.GID{}) && (c.up || c.addr() == local) {
			usable = append(usable, c)
		}
	}
	slices.SortStableFunc(usable, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	if len(usable) > 0 && rank(usable[0]) < 5 {
		return slices.DeleteFunc(usable, func(c candidate) bool { return rank(c) == 5 })
	}
	return usable
}

// chooseGID finds the address of the port for a peer. On InfiniBand it is the first.
func (d *Domain) chooseGID(infiniBand bool, tableLength int, local, peer netip.Addr) (candidate, error) {
	if infiniBand && d.options.GID == "" {
		g, err := d.verbs.QueryGIDOnly(d.context, d.port, 0)
		return candidate{gid: g}, called("ibv_query_gid", err)
	}
	all, err := d.readGIDs(tableLength)
	if err != nil {
		return candidate{}, err
	}
	if want, _ := parseGID(d.options.GID); want.IsValid() {
		for _, c := range all {
			if c.addr() == want && c.kind != ibv.GIDTypeRoCEv1 {
				return c, nil
			}
		}
		return candidate{}, invalidf("port %d of %s has no address %s (RoCE v2)", d.port, d.name, want)
	}
	ranked := rankGIDs(all, local, peer)
	if len(ranked) == 0 {
		return candidate{}, fmt.Errorf("%w: port %d of %s has no RoCE v2 address on an interface that is up", ErrPeerLost, d.port, d.name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortStableFunc(ranked, func(a, b candidate) int { return cmp.Compare(d.avoided[a.gid], d.avoided[b.gid]) })
	return ranked[0], nil
}

// routed notes whether a way from this address could be set up. Those that failed come after the others next time.
func (d *Domain) routed(g ibv.GID, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		delete(d.avoided, g)
	} else {
		d.avoided[g]++
	}
}

// readGIDs reads the table. Empty entries are left out; at the first that cannot be read it stops.
func (d *Domain) readGIDs(length int) (all []candidate, err error) {
	interfaces := map[int]candidate{}
	for i := range min(length, 256) { // an index is a byte
		entry, err := d.verbs.QueryGID(d.context, d.port, i)
		if errors.Is(err, syscall.ENOSYS) {
			entry, err = d.library.gidFromSysfs(d, i)
		}
		if errors.Is(err, ibv.ErrNoEntry) {
			continue
		}
		if err != nil {
			if len(all) == 0 {
				return nil, called("ibv_query_gid", err)
			}
			break
		}
		c, known := interfaces[int(entry.Ifindex)]
		if !known {
			c = describeInterface(int(entry.Ifindex))
			interfaces[int(entry.Ifindex)] = c
		}
		c.index, c.gid, c.kind = i, entry.GID, entry.Type
		all = append(all, c)
	}
	return all, nil
}

// gidFromSysfs reads what an old library cannot tell.
func (l *Library) gidFromSysfs(d *Domain, i int) (e ibv.GIDEntry, err error) {
	if e.GID, err = l.verbs.QueryGIDOnly(d.context, d.port, i); err != nil {
		return e, err
	}
	folder := filepath.Join(l.sysfs, d.name, "ports", strconv.Itoa(int(d.port)), "gid_attrs")
	kind, err := os.ReadFile(filepath.Join(folder, "types", strconv.Itoa(i)))
	if err != nil || e.GID == (ibv.GID{}) {
		return e, ibv.ErrNoEntry // as the kernel says of an empty entry
	}
	e.Type = ibv.GIDTypeRoCEv1
	if strings.TrimSpace(string(kind)) == "RoCE v2" {
		e.Type = ibv.GIDTypeRoCEv2
	}
	name, err := os.ReadFile(filepath.Join(folder, "ndevs", strconv.Itoa(i)))
	if err != nil {
		return e, nil
	}
	if at, err := net.InterfaceByName(strings.TrimSpace(string(name))); err == nil {
		e.Ifindex = uint32(at.Index)
	}
	return e, nil
}

func describeInterface(index int) (c candidate) {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return c
	}
	c.up = i.Flags&net.FlagUp != 0
	for _, prefix := range []string{"docker", "br-", "virbr", "veth", "cni", "flannel", "cali"} {
		c.virtual = c.virtual || strings.HasPrefix(i.Name, prefix)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return c
	}
	for _, a := range addrs {
		if n, err := netip.ParsePrefix(a.String()); err == nil {
			c.networks = append(c.networks, n)
		}
	}
	return c
}
