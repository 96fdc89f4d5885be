package arena

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Arena is a region and the allocator for it. A store has one; extents carry a
// region number so that it may have more.
//
// An Arena is safe for concurrent use until Close.
type Arena struct {
	*Region
	*Extents
	limits *memory
	guard  func(off, n uint64) (done func(), ok bool)
	sample sample

	stop      atomic.Bool
	filler    sync.WaitGroup
	closeOnce sync.Once

	mu      sync.Mutex
	fillErr error
}

// Open makes an arena. When it fails nothing is left behind.
func Open(o Options) (*Arena, error) { return open(linux, newBacking(), process, o) }

func open(sys kernel, mem backing, limits *memory, o Options) (*Arena, error) {
	r, err := openRegion(sys, o)
	if err != nil {
		return nil, err
	}
	x, err := newExtents(r.Size(), r.PageSize(), mem)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	a := &Arena{Region: r, Extents: x, limits: limits, guard: o.TrimGuard}
	if !r.HugePages() { // those are reserved, and no group's memory limit counts them
		x.admit = a.admit
	}
	switch o.Prefault {
	case PrefaultOpen:
		if err := a.fill(); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	case PrefaultBackground:
		a.filler.Go(func() { a.setFillErr(a.fill()) })
	}
	return a, nil
}

// Close stops prefault and trim, gives the bookkeeping back and unmaps the
// region. Further calls return nil.
func (a *Arena) Close() (err error) {
	a.closeOnce.Do(func() {
		a.stop.Store(true)
		a.filler.Wait()
		err = errors.Join(a.Extents.Close(), a.Region.Close())
	})
	return err
}

// trimStep is how much is given back between two looks at who else is waiting.
const trimStep = 64 << 20

// Trim gives free memory back to the system, as far as whole pages are free,
// and says how much that was. What it gave back is cold again. After an error
// the rest is as before.
func (a *Arena) Trim() (freed uint64, err error) {
	err = a.each(true, trimStep, func(off, n uint64) (uint64, error) {
		if a.stop.Load() {
			return 0, fail("trim", ErrClosed)
		}
		if a.guard != nil {
			done, ok := a.guard(off, n)
			if !ok {
				return 0, nil
			}
			defer done()
		}
		if err := a.Punch(off, n); err != nil {
			return 0, err
		}
		freed += n
		return n, nil
	})
	return freed, err
}

// PrefaultErr is why prefaulting in the background ended early; nil while it
// runs, when it is complete, and when it was not asked for.
func (a *Arena) PrefaultErr() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fillErr
}

func (a *Arena) setFillErr(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fillErr = err
}

// errStopped ends a prefault early without being an error.
var errStopped = errors.New("stopped")

// fillStep is how much is prefaulted between two looks at the stop flag:
// about ten milliseconds.
const fillStep = 16 << 20

// fill prefaults all cold pages that nobody uses, in both mappings.
func (a *Arena) fill() error {
	err := a.each(false, fillStep, func(off, n uint64) (uint64, error) {
		if a.stop.Load() {
			return 0, errStopped
		}
		if err := a.roomFor(n); err != nil {
			return 0, err
		}
		if err := a.Populate(off, n); err != nil {
			return 0, err
		}
		return n, nil
	})
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}
