package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Registry is the registered memory of one store.
type Registry struct {
	locks       *Locks
	slabs       slabs
	slabsClosed atomic.Bool
	ranges      ranges[*Registration]
	count       counters
	ids         atomic.Uint64

	endings struct { // registrations that wait for transfers
		mu  sync.Mutex
		all map[*Registration]struct{}
	}
	detaching sync.Mutex // one Detach at a time; before life

	// life is held shared while memory is registered, so that whoever holds it alone knows all there is.
	life     sync.RWMutex
	closed   bool
	devices  []*Attached
	attached int // how many ever
}

// New makes a registry. memory may be nil; the locks are those of the process.
func New(locks *Locks, memory Memory) *Registry {
	return &Registry{locks: locks, slabs: slabs{memory: memory}}
}

// Options say how a range is registered.
type Options struct {
	Lock bool // also lock its pages in memory (mlock)
}

// Registration is a range that the caller registered. It lives until Release.
type Registration struct {
	Tag atomic.Uint64 // whatever the one who registered it wants to find again

	registry *Registry
	id       uint64
	span     span
	pages    pages

	// Guarded by span.mu; drained does not change once it is there. It says that the last transfer has ended.
	drained <-chan struct{}
	ended   bool
	err     error
}

// ID is never used again, in this registry.
func (g *Registration) ID() uint64 { return g.id }

// Start is the first address, Size the number of bytes.
func (g *Registration) Start() uintptr { return g.span.start }

// Size is the number of bytes.
func (g *Registration) Size() uint64 { return uint64(g.span.size) }

// Locked says whether its pages are locked in memory.
func (g *Registration) Locked() bool { return g.pages.id != 0 }

// InFlight is how many transfers use it now.
func (g *Registration) InFlight() uint64 { return g.span.gate.inside() }

// Register takes up size bytes at addr, with all devices that there are; those that come later register it when they first
// use it. When it fails nothing is registered and nothing locked.
func (r *Registry) Register(addr uintptr, size uint64, o Options) (*Registration, error) {
	const op = "register"
	if err := r.check(op, addr, size); err != nil {
		return nil, err
	}
	r.life.RLock()
	defer r.life.RUnlock()
	if r.closed {
		return nil, fail(op, ErrClosed)
	}
	g := &Registration{registry: r, id: r.ids.Add(1)}
	g.span.start, g.span.size = addr, uintptr(size)
	if err := r.back(g, o); err != nil {
		return nil, errors.Join(err, g.drop())
	}
	r.count.bytes.Add(int64(size))
	if g.Locked() {
		r.count.locked.Add(int64(size))
	}
	r.ranges.insert(entry[*Registration]{addr, addr + uintptr(size), g.id, g})
	return g, nil
}

func (r *Registry) check(op string, addr uintptr, size uint64) error {
	if size == 0 || addr == 0 || size > math.MaxInt64 || uint64(addr) > math.MaxInt64-size {
		return failf(op, ErrInvalid, "%d bytes at address 0x%x", size, addr)
	}
	if m := r.slabs.memory; m != nil {
		for _, edge := range [2]uintptr{addr, addr + uintptr(size) - 1} {
			if _, ours := m.Contains(edge); ours {
				return failf(op, ErrInvalid, "it is the store's own, which needs no registration: see its slabs")
			}
		}
	}
	page := uintptr(os.Getpagesize())
	from := addr &^ (page - 1)
	if err := r.locks.sys.mapped(from, (addr+uintptr(size)+page-1)&^(page-1)-from); err != nil {
		return failf(op, ErrInvalid, "not all of %d bytes at address 0x%x is mapped memory of this process", size, addr)
	}
	return nil
}

// back locks and registers what a registration stands for.
func (r *Registry) back(g *Registration, o Options) (err error) {
	if o.Lock {
		start := time.Now()
		g.pages, err = r.locks.lock(g.span.start, g.span.size)
		r.count.time.Add(int64(time.Since(start)))
		if err != nil {
			return err
		}
	}
	errs, regions := make([]error, len(r.devices)), make([]*held, len(r.devices))
	var each sync.WaitGroup
	for i, a := range r.devices {
		each.Go(func() {
			regions[i], errs[i] = r.register(a, g.span.start, g.span.start, g.span.size, Send|Receive)
		})
	}
	each.Wait()
	for i, a := range r.devices {
		if regions[i] != nil {
			g.span.set(a.number, regions[i])
		}
	}
	return errors.Join(errs...)
}

// drop undoes back. No transfer is in flight.
func (g *Registration) drop() error {
	g.span.mu.Lock()
	defer g.span.mu.Unlock()
	return g.dropLocked()
}

func (g *Registration) dropLocked() error {
	err := g.span.dropAll(g.registry)
	start := time.Now()
	err = errors.Join(err, g.registry.locks.unlock(g.pages))
	g.registry.count.time.Add(int64(time.Since(start)))
	return err
}

// Release ends a registration: no transfer begins from now on, and when the last one has ended the memory is deregistered
// and unlocked. ErrInUse: ctx was over before; the memory must stay as it is, and Release may be called again. Once
// it has ended, each call says the same.
func (g *Registration) Release(ctx context.Context) error {
	g.shut()
	if !wait(ctx, g.drained) {
		return failf("release", ErrInUse, "%d", g.InFlight())
	}
	return g.end()
}

// shut lets no transfer begin any more.
func (g *Registration) shut() {
	r := g.registry
	r.life.RLock()
	defer r.life.RUnlock()
	g.span.mu.Lock()
	defer g.span.mu.Unlock()
	if g.drained != nil {
		return
	}
	r.endings.mu.Lock()
	if r.endings.all == nil {
		r.endings.all = map[*Registration]struct{}{}
	}
	r.endings.all[g] = struct{}{}
	r.endings.mu.Unlock()
	r.ranges.remove(g.span.start, g.id)
	g.drained = g.span.gate.shut()
}

// end takes down what a registration stands for, once. Its last transfer has ended.
func (g *Registration) end() error {
	r := g.registry
	r.life.RLock()
	defer r.life.RUnlock()
	g.span.mu.Lock()
	defer g.span.mu.Unlock()
	if !g.ended {
		g.ended = true
		r.count.bytes.Add(-int64(g.span.size))
		if g.Locked() {
			r.count.locked.Add(-int64(g.span.size))
		}
		g.err = g.dropLocked()
		r.endings.mu.Lock()
		delete(r.endings.all, g)
		r.endings.mu.Unlock()
	}
	return g.err
}

// Piece is registered memory in flight, until End: what one device calls a part of one registration, or of one slab.
type Piece struct {
	Region Region
	Addr   uintptr // by which the device knows it
	Size   uint64

	span   *span
	device *Attached
}

// End says that the device is done with the piece.
func (p *Piece) End() {
	p.device.gate.leave()
	p.span.gate.leave()
	*p = Piece{}
}

func undo(pieces []Piece, had int) []Piece {
	for i := had; i < len(pieces); i++ {
		pieces[i].End()
	}
	return pieces[:had]
}

// Acquire appends the pieces of n bytes at addr: one for memory of the caller, one for each slab for memory of the
// store, which the caller views meanwhile. ErrNotRegistered when not all of it is registered. It registers what this
// device has not met yet; after that it makes no system call and allocates nothing.
func (r *Registry) Acquire(a *Attached, addr uintptr, n uint64, pieces []Piece) ([]Piece, error) {
	if m := r.slabs.memory; m != nil {
		if off, ok := m.Contains(addr); ok {
			if n > m.Size()-off {
				return pieces, fail("acquire", ErrNotRegistered)
			}
			return r.acquireStore(a, off, n, pieces)
		}
	}
	for {
		g, ok := r.find(addr, n)
		if !ok {
			return pieces, fail("acquire", ErrNotRegistered)
		}
		if !g.span.gate.enter() {
			continue // released meanwhile: no look-up finds it from now on
		}
		p, err := r.piece(a, &g.span, addr, n)
		if err != nil {
			return pieces, err
		}
		return append(pieces, p), nil
	}
}

// piece takes over one entry into the gate of the span.
func (r *Registry) piece(a *Attached, s *span, addr uintptr, n uint64) (Piece, error) {
	if !a.gate.enter() {
		s.gate.leave()
		return Piece{}, fail("acquire", fmt.Errorf("%w: %s is being detached", ErrClosed, a.Name()))
	}
	region, err := s.on(r, a)
	if err != nil {
		a.gate.leave()
		s.gate.leave()
		return Piece{}, err
	}
	return Piece{Region: region, Addr: addr, Size: n, span: s, device: a}, nil
}

func (r *Registry) find(addr uintptr, n uint64) (*Registration, bool) {
	end := addr + uintptr(n)
	if end < addr {
		return nil, false
	}
	return r.ranges.find(addr, end)
}

// Found is where an address lies.
type Found struct {
	Store        bool          // in memory of the store
	Offset       uint64        // from the start of the store's memory, or of the registration
	Registration *Registration // nil for memory of the store
}

// Find says where n bytes at addr are registered. The answer is of that moment.
func (r *Registry) Find(addr uintptr, n uint64) (Found, bool) {
	if m := r.slabs.memory; m != nil {
		if off, ok := m.Contains(addr); ok {
			return Found{Store: true, Offset: off}, n <= m.Size()-off
		}
	}
	g, ok := r.find(addr, n)
	if !ok {
		return Found{}, false
	}
	return Found{Offset: uint64(addr - g.span.start), Registration: g}, true
}

// Close ends all registrations of the caller; one with transfers in flight when the last of them ends. The memory of the
// store is left to CloseMemory.
func (r *Registry) Close() {
	r.life.Lock()
	r.closed = true
	r.life.Unlock()
	done, cancel := context.WithCancel(context.Background())
	cancel()
	var all []*Registration
	r.ranges.each(func(g *Registration) { all = append(all, g) })
	for _, g := range all {
		if errors.Is(g.Release(done), ErrInUse) {
			go func() { _ = g.Release(context.Background()) }()
		}
	}
}

// eachSpan visits everything that may be registered with a device. life is locked.
func (r *Registry) eachSpan(visit func(*span)) {
	r.ranges.each(func(g *Registration) { visit(&g.span) })
	r.endings.mu.Lock()
	for g := range r.endings.all {
		visit(&g.span)
	}
	r.endings.mu.Unlock()
	if list := r.slabs.list.Load(); list != nil {
		for i := range *list {
			visit(&(*list)[i])
		}
	}
}

// Stats are the figures of a registry.
type Stats struct {
	Registrations uint64 // of the caller's
	Bytes         uint64 // in them
	LockedBytes   uint64 // of those with Lock
	Devices       uint64
	SlabBytes     uint64        // of the store, registered with some device
	Registered    uint64        // how often memory was registered with a device
	Deregistered  uint64        // and how often that ended
	Time          time.Duration // spent in both, and in locking
}

// Stats gives them. They are not of one moment.
func (r *Registry) Stats() Stats {
	r.life.RLock()
	devices := len(r.devices)
	r.life.RUnlock()
	return Stats{
		Registrations: uint64(r.ranges.len()), Bytes: uint64(r.count.bytes.Load()),
		LockedBytes: uint64(r.count.locked.Load()), Devices: uint64(devices),
		SlabBytes: uint64(r.count.slabs.Load()), Registered: r.count.registered.Load(),
		Deregistered: r.count.deregistered.Load(), Time: time.Duration(r.count.time.Load()),
	}
}
