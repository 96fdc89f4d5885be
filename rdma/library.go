package rdma

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"moorage/rdma/internal/ibv"
)

// Library is libibverbs in this process.
type Library struct {
	verbs *ibv.Library
	sysfs string // where the kernel describes devices
}

// Load loads libibverbs from path; empty means the one that the dynamic loader finds. The error is an UnavailableError.
func Load(path string) (*Library, error) {
	if !ibv.Supported {
		return nil, &UnavailableError{Reason: NoPlatform}
	}
	verbs, err := ibv.Load(path)
	if err != nil {
		return nil, &UnavailableError{Reason: NoLibrary, Err: err}
	}
	return &Library{verbs: verbs, sysfs: "/sys/class/infiniband"}, nil
}

// Device describes a card.
type Device struct {
	Name     string
	Firmware string
	NUMANode int // -1: unknown
	Ports    []Port
	Err      error // why it could not be opened; then nothing else is known but the name
}

// Port describes a port of a card.
type Port struct {
	Number     int
	Active     bool
	InfiniBand bool // otherwise Ethernet
	MTU        int  // bytes
	MaxMessage uint32
}

// Devices lists all cards. When there is none that could be used, the error is an UnavailableError, beside the list.
func (l *Library) Devices() ([]Device, error) {
	var found []Device
	err := l.verbs.EachDevice(func(d ibv.Device, name string) error {
		found = append(found, l.describe(d, name))
		return nil
	})
	if errors.Is(err, syscall.ENOSYS) {
		return nil, &UnavailableError{Reason: NoKernel, Err: err}
	}
	if err != nil {
		return nil, called("ibv_get_device_list", err)
	}
	return found, unusable(found)
}

// unusable says why none of the devices can be used, nil if one can.
func unusable(devices []Device) error {
	if len(devices) == 0 {
		return &UnavailableError{Reason: NoDevice}
	}
	reason, cause := NoPermission, error(nil)
	for _, d := range devices {
		if d.Err != nil {
			cause = errors.Join(cause, fmt.Errorf("%s: %w", d.Name, d.Err))
			continue
		}
		reason = NoActivePort
		for _, p := range d.Ports {
			if p.Active {
				return nil
			}
		}
	}
	return &UnavailableError{Reason: reason, Err: cause}
}

func (l *Library) describe(d ibv.Device, name string) (out Device) {
	out.Name, out.NUMANode = name, l.numaNode(name)
	ctx, err := l.verbs.Open(d)
	if err != nil {
		out.Err = called("ibv_open_device", err)
		return out
	}
	defer func() { out.Err = errors.Join(out.Err, called("ibv_close_device", l.verbs.Close(ctx))) }()
	attr, err := l.verbs.QueryDevice(ctx)
	if err != nil {
		out.Err = called("ibv_query_device", err)
		return out
	}
	out.Firmware, _, _ = strings.Cut(string(attr.FirmwareVersion[:]), "\x00")
	for n := 1; n <= int(attr.Ports); n++ {
		p, err := l.verbs.QueryPort(ctx, uint8(n))
		if err != nil {
			out.Err = called("ibv_query_port", err)
			return out
		}
		out.Ports = append(out.Ports, Port{Number: n, Active: p.State == ibv.PortActive,
			InfiniBand: p.LinkLayer == ibv.LinkInfiniBand, MTU: 128 << p.ActiveMTU, MaxMessage: p.MaxMessage})
	}
	return out
}

func (l *Library) numaNode(name string) int {
	b, err := os.ReadFile(filepath.Join(l.sysfs, name, "device", "numa_node"))
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -1
	}
	return n
}

// Counts is how many verbs objects exist in this process, and how many registrations were made and ended.
type Counts = ibv.Counts

// Live reads the counts. All but the last two are zero when everything was closed.
func Live() Counts { return ibv.Live() }
