package cost

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"moorage/core/registry"
)

// Sizes at which a device is measured, and how often: about a millisecond in all on a card.
var sizes = [...]uint64{64 << 10, 256 << 10, 1 << 20}

const (
	repeats = 4
	slot    = 256 << 10 // bytes of a bounce buffer
)

// Calibrate measures what registering with a device and what copying costs. copy is the way in which bounce buffers are copied.
func Calibrate(d registry.Device, copy func(dst, src, n uintptr)) (f Figures, err error) {
	began := time.Now()
	most := sizes[len(sizes)-1]
	room, err := scratch(int(most) + slot)
	if err != nil {
		return f, fmt.Errorf("measure %s: memory: %w", d.Name(), err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(room)) }()
	at := addressOf(room)
	f.Device = d.Name()
	for _, n := range sizes {
		p := Point{Bytes: n}
		for range repeats { // the least of them counts: whatever else happened on the machine made it no cheaper
			start := time.Now()
			if err := registerOnce(d, at, uintptr(n)); err != nil {
				return Figures{}, fmt.Errorf("measure %s with %d bytes: %w", d.Name(), n, err)
			}
			p.Register = least(p.Register, time.Since(start))
			start = time.Now()
			for off := uint64(0); off < n; off += slot {
				copy(at+uintptr(most), at+uintptr(off), uintptr(min(slot, n-off)))
			}
			p.Copy = least(p.Copy, time.Since(start))
		}
		f.Points = append(f.Points, p)
	}
	f.Register = fit(f.Points, func(p Point) time.Duration { return p.Register })
	f.Copy = fit(f.Points, func(p Point) time.Duration { return p.Copy })
	f.Took = time.Since(began)
	return f, nil
}

func registerOnce(d registry.Device, at, n uintptr) error {
	r, err := d.Register(at, at, n, registry.Receive)
	if err != nil {
		return err
	}
	return r.Deregister()
}

func least(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// scratch is touched memory with small pages.
func scratch(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE) // EINVAL: there are none
	for i := 0; i < n; i += page {
		b[i] = 1
	}
	return b, nil
}
