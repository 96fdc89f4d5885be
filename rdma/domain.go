package rdma

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

// Limits of our own, below what a device may offer.
const (
	maxReads        = 16      // reads under way at a time on a queue pair
	maxPiece        = 1 << 30 // bytes of one work request
	defaultEntries  = 4096    // of a completion queue
	defaultSpin     = 20 * time.Microsecond
	defaultFlush    = time.Second
	longestTeardown = 10 * time.Second
)

// DomainOptions are the choices for Open. Zero is the default of each.
type DomainOptions struct {
	Port    int           // zero: the first active one
	GID     string        // the port's address to use, as text; empty: chosen for each peer
	Spin    time.Duration // how long completions are awaited by polling before parking; negative: not at all
	Flush   time.Duration // how long a failed queue pair is given to flush before it is destroyed
	Entries int           // of a completion queue; bounds the reads under way on all connections that share it
}

// Domain is an opened device, with all that was made on it.
type Domain struct {
	library *Library
	verbs   *ibv.Library
	name    string
	context ibv.Context
	pd      ibv.PD
	attr    ibv.DeviceAttr
	port    uint8
	options DomainOptions
	epoch   uint64
	events  *events
	lost    atomic.Bool // the device was removed
	closing sync.Mutex  // one Close at a time; before mu

	mu         sync.Mutex
	closed     bool
	refused    error // since GiveUp
	calls      int   // Register and Connect under way
	callsEnded chan struct{}
	conns      map[*Conn]struct{}
	regions    map[*Region]struct{}
	pollers    []*poller
	buried     []*Conn // that could not destroy all queue pairs
	avoided    map[ibv.GID]int
}

// Open opens the device of that name; the empty name means the first one with an active port.
func (l *Library) Open(name string, o DomainOptions) (*Domain, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d := &Domain{library: l, verbs: l.verbs, options: o, conns: map[*Conn]struct{}{}, regions: map[*Region]struct{}{},
		avoided: map[ibv.GID]int{}}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("epoch: %w", err)
	}
	d.epoch = binary.LittleEndian.Uint64(seed[:]) | 1
	if err := d.openDevice(name); err != nil {
		return nil, err
	}
	pd, err := l.verbs.AllocPD(d.context)
	if err != nil {
		return nil, errors.Join(called("ibv_alloc_pd", err), called("ibv_close_device", l.verbs.Close(d.context)))
	}
	d.pd = pd
	if d.events, err = watchEvents(d); err != nil {
		return nil, errors.Join(err, called("ibv_dealloc_pd", l.verbs.DeallocPD(pd)), called("ibv_close_device", l.verbs.Close(d.context)))
	}
	return d, nil
}

func (o *DomainOptions) complete() error {
	switch {
	case o.Port < 0 || o.Port > 255:
		return invalidf("Port must be between 1 and 255, or zero for the first active one")
	case o.Entries < 0:
		return invalidf("Entries must not be negative")
	case o.Flush < 0:
		return invalidf("Flush must not be negative")
	}
	if _, err := parseGID(o.GID); err != nil {
		return err
	}
	if o.Spin == 0 {
		o.Spin = defaultSpin
	}
	if o.Flush == 0 {
		o.Flush = defaultFlush
	}
	if o.Entries == 0 {
		o.Entries = defaultEntries
	}
	return nil
}

var errFound = errors.New("found")

// openDevice opens the first device that fits.
func (d *Domain) openDevice(name string) error {
	var refused error
	seen := 0
	err := d.verbs.EachDevice(func(dev ibv.Device, has string) error {
		if name != "" && name != has {
			return nil
		}
		seen++
		if err := d.try(dev, has); err != nil {
			refused = errors.Join(refused, fmt.Errorf("%s: %w", has, err))
			return nil
		}
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return nil
	case errors.Is(err, syscall.ENOSYS):
		return &UnavailableError{Reason: NoKernel, Err: err}
	case err != nil:
		return called("ibv_get_device_list", err)
	case seen == 0 && name != "":
		return invalidf("there is no device %q", name)
	case seen == 0:
		return &UnavailableError{Reason: NoDevice}
	}
	return refused
}

// try opens dev and finds an active port.
func (d *Domain) try(dev ibv.Device, name string) (err error) {
	ctx, err := d.verbs.Open(dev)
	if err != nil {
		return &UnavailableError{Reason: NoPermission, Err: called("ibv_open_device", err)}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, called("ibv_close_device", d.verbs.Close(ctx)))
		}
	}()
	attr, err := d.verbs.QueryDevice(ctx)
	if err != nil {
		return called("ibv_query_device", err)
	}
	if attr.MaxQPInitReadAtomic < 1 || attr.MaxQPReadAtomic < 1 {
		return fmt.Errorf("%w: the device has no one-sided reads", ErrDevice)
	}
	for n := 1; n <= int(attr.Ports); n++ {
		if d.options.Port != 0 && d.options.Port != n {
			continue
		}
		p, err := d.verbs.QueryPort(ctx, uint8(n))
		if err != nil {
			return called("ibv_query_port", err)
		}
		if p.State == ibv.PortActive {
			d.context, d.name, d.attr, d.port = ctx, name, attr, uint8(n)
			return nil
		}
	}
	return &UnavailableError{Reason: NoActivePort}
}

// Name is the device's name.
func (d *Domain) Name() string { return d.name }

// targets is how many one work request may have.
func (d *Domain) targets() int {
	return int(min(max(min(d.attr.MaxSGE, d.attr.MaxSGERead), 1), shim.MaxTargets))
}

// Epoch is a number that no other Domain has.
func (d *Domain) Epoch() uint64 { return d.epoch }

// DomainStats is what a Domain has at the moment.
type DomainStats struct {
	Conns       int
	Regions     int
	Registered  uint64 // bytes
	Quarantined int    // connections with queue pairs that could not be destroyed
	Stale       uint64 // completions that nobody waited for any more
}

// Stats counts.
func (d *Domain) Stats() (s DomainStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Conns, s.Regions, s.Quarantined = len(d.conns), len(d.regions), len(d.buried)
	for r := range d.regions {
		s.Registered += r.length
	}
	for _, p := range d.pollers {
		s.Stale += p.stale.Load()
	}
	return s
}

// enter keeps the Domain open for a call.
func (d *Domain) enter() (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("domain: %w", ErrClosed)
	}
	if err := d.unfit(); err != nil {
		return nil, err
	}
	d.calls++
	return d.leave, nil
}

// unfit says why nothing new can be done on the device. The caller holds mu.
func (d *Domain) unfit() error {
	if d.lost.Load() {
		return fmt.Errorf("%s: %w", d.name, ErrDevice)
	}
	return d.refused
}

// GiveUp ends all connections and lets nothing new begin, as if the device were gone: for what should have ended on it and
// cannot be ended. When it returns nil no queue pair is left, so that no card touches any registered memory.
func (d *Domain) GiveUp(why error) error {
	cause := fmt.Errorf("%s was given up: %w: %w", d.name, ErrDevice, why)
	ctx, cancel := context.WithTimeout(context.Background(), longestTeardown)
	defer cancel()
	d.mu.Lock()
	if d.refused == nil {
		d.refused = cause
	}
	wait := d.idle()
	d.mu.Unlock()
	if err := awaitCalls(ctx, wait); err != nil {
		return err
	}
	d.mu.Lock()
	buried := slices.Clone(d.buried)
	d.mu.Unlock()
	d.each(func(c *Conn) {
		c.fail(cause)
		buried = append(buried, c)
	})
	var errs []error
	for _, c := range buried {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (d *Domain) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls--
	if d.calls == 0 && d.callsEnded != nil {
		close(d.callsEnded)
		d.callsEnded = nil
	}
}

// Close ends all connections, then all regions, then the rest. An error says what could not be ended; Close may be tried again.
func (d *Domain) Close() error {
	d.closing.Lock()
	defer d.closing.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), longestTeardown)
	defer cancel()
	if err := d.shut(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	conns, regions := make([]*Conn, 0, len(d.conns)), make([]*Region, 0, len(d.regions))
	for c := range d.conns {
		conns = append(conns, c)
	}
	for r := range d.regions {
		regions = append(regions, r)
	}
	buried := slices.Clone(d.buried)
	d.mu.Unlock()

	var errs []error
	for _, c := range conns {
		c.fail(ErrClosed)
	}
	for _, c := range append(conns, buried...) {
		errs = append(errs, c.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return err // some regions may be held for ever
	}
	for _, r := range regions {
		errs = append(errs, r.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return d.closeDevice()
}

// shut lets no new call in and waits for those under way.
func (d *Domain) shut(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	wait := d.idle()
	d.mu.Unlock()
	return awaitCalls(ctx, wait)
}

// idle is closed when no call is under way any more; nil if none is. The caller holds mu.
func (d *Domain) idle() <-chan struct{} {
	if d.calls > 0 && d.callsEnded == nil {
		d.callsEnded = make(chan struct{})
	}
	return d.callsEnded
}

func awaitCalls(ctx context.Context, idle <-chan struct{}) error {
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("domain: calls are under way: %w", ctx.Err())
	}
}

// closeDevice ends what is left when no connection and no region is. Only Close calls it, one at a time.
func (d *Domain) closeDevice() error {
	for {
		d.mu.Lock()
		if len(d.pollers) == 0 {
			d.mu.Unlock()
			break
		}
		p := d.pollers[0]
		d.mu.Unlock()
		if err := p.close(); err != nil {
			return err
		}
		d.mu.Lock()
		d.pollers = d.pollers[1:]
		d.mu.Unlock()
	}
	if d.events != nil {
		d.events.close()
		d.events = nil
	}
	if d.pd != 0 {
		if err := d.verbs.DeallocPD(d.pd); err != nil {
			return called("ibv_dealloc_pd", err)
		}
		d.pd = 0
	}
	if d.context != 0 {
		if err := d.verbs.Close(d.context); err != nil {
			return called("ibv_close_device", err)
		}
		d.context = 0
	}
	return nil
}

// each calls f with every connection.
func (d *Domain) each(f func(*Conn)) {
	d.mu.Lock()
	conns := make([]*Conn, 0, len(d.conns))
	for c := range d.conns {
		conns = append(conns, c)
	}
	d.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}
