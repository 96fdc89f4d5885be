package core

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"moorage/core/arena"
	"moorage/core/arena/cell"
	"moorage/core/index"
	"moorage/core/registry"
	"moorage/core/tier"
	"moorage/core/tier/file"
)

// Store is a set of named objects in memory that never moves. See the package comment.
type Store struct {
	host    *Host
	words   *cell.Process
	opts    Options
	arena   *arena.Arena
	heap    *index.Heap
	control *cell.Control
	shards  [index.Shards]shard

	seq         atomic.Uint64
	closed      atomic.Uint32
	finished    chan struct{} // closed when all names are gone after Close
	outstanding atomic.Int64  // cells that are not home

	counters struct {
		copiedIn, adoptions, adoptCopies atomic.Uint64
		protected                        atomic.Int64 // extents whose writer's pages are read-only
	}

	drains     drains
	reserved   reservations
	policy     policy
	sets       sets
	waits      waits
	jobs       jobs
	borrowSeen borrowSeen
	tiered     *tiered // nil without a disk

	registry *registry.Registry
	warming  struct { // registering all memory ahead of its use
		ctx   context.Context
		stop  context.CancelFunc
		tasks sync.WaitGroup
	}
}

// drains is the state of taking cells back. One drain at a time.
type drains struct {
	mu       sync.Mutex
	held     []uint32 // dead cells that a forked child may still read, or that could not be unprotected
	bytes    uint64   // of their extents
	stuck    bool     // one of them could not be unprotected
	unmapped bool
}

// Open opens a store on the host of this process, with Go's own copy and without fork handlers.
func Open(o Options) (*Store, error) { return OpenOn(defaultHost(), nil, o) }

// OpenOn opens a store on a host. tracker learns of the region and may be nil. When it fails nothing is left behind.
func OpenOn(h *Host, tracker arena.Tracker, o Options) (*Store, error) {
	return openWith(h, tracker, o, index.Options{})
}

func openWith(h *Host, tracker arena.Tracker, o Options, names index.Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{host: h, words: h.words, opts: o, finished: make(chan struct{})}
	if err := s.open(tracker, names); err != nil {
		return nil, errors.Join(fail("open", classify(err)), s.unmap())
	}
	return s, nil
}

func (s *Store) open(tracker arena.Tracker, names index.Options) (err error) {
	if s.control, err = mapControl(); err != nil {
		return fmt.Errorf("%w: control page: %w", ErrMemory, err)
	}
	if s.heap, err = index.NewHeap(names); err != nil {
		return err
	}
	for i := range s.shards {
		if s.shards[i].table, err = index.NewTable(s.heap); err != nil {
			return err
		}
	}
	guard := func(off, n uint64) (func(), bool) { return s.registry.Guard(off, n) }
	s.arena, err = arena.Open(arena.Options{
		Size: s.opts.Capacity, HugePages: s.opts.HugePages, Prefault: s.opts.Prefault, Tracker: tracker, TrimGuard: guard,
	})
	if err != nil {
		return fmt.Errorf("capacity %d: %w", s.opts.Capacity, err)
	}
	s.registry = registry.New(s.host.locks, s.arena)
	s.warming.ctx, s.warming.stop = context.WithCancel(context.Background())
	s.opts.Capacity = s.arena.Size()
	s.policy.init(s)
	s.jobs.limits = s.opts.Jobs
	s.reserved.init()
	if err := s.openDisk(); err != nil {
		return err
	}
	return s.host.add(s)
}

// classify gives an error of a lower layer its place among the errors of a store.
func classify(err error) error {
	for _, c := range []struct{ from, to error }{
		{arena.ErrMemoryLimit, ErrMemory}, {arena.ErrMetadata, ErrMemory}, {index.ErrNoMemory, ErrMemory},
		{arena.ErrHugePages, ErrHugePages}, {arena.ErrOption, ErrInvalid}, {arena.ErrNoSpace, ErrCapacity},
		{registry.ErrMemlock, ErrMemory}, {registry.ErrInvalid, ErrInvalid}, {registry.ErrClosed, ErrClosed},
		{registry.ErrInUse, ErrTimeout},
		{file.ErrLocked, ErrBusy}, {tier.ErrFormat, ErrDamaged}, {tier.ErrDamaged, ErrDamaged}, {tier.ErrInvalid, ErrInvalid},
	} {
		if errors.Is(err, c.from) {
			return fmt.Errorf("%w: %w", c.to, err)
		}
	}
	for _, own := range []error{ErrMemory, ErrSystem, ErrInvalid, ErrDisk} {
		if errors.Is(err, own) {
			return err
		}
	}
	if errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	return fmt.Errorf("%w: %w", ErrSystem, err)
}

// Capacity is the size of the region in bytes.
func (s *Store) Capacity() uint64 { return s.opts.Capacity }

// Region is where the bytes of all objects lie.
func (s *Store) Region() *arena.Region { return s.arena.Region }

// Words are the words of the process that the store works with.
func (s *Store) Words() *cell.Process { return s.words }

// Close ends the store for callers: calls in flight finish, long copies stop with ErrCancelled, as do keys of jobs that
// have not been begun, new ones get ErrClosed. Objects are taken down behind it; with wait, before it returns. Views and reservations stay valid, and
// with the last of them the memory is unmapped.
func (s *Store) Close(wait bool) error {
	if !s.closed.CompareAndSwap(0, 1) {
		return ErrClosed
	}
	s.control.Closing.Store(1)
	s.waits.end()
	if s.tiered != nil {
		s.tiered.stop()
	}
	s.jobs.end()
	for i := range s.shards {
		for n := 0; s.shards[i].inflight.Load() != 0; n++ {
			if n < 100 {
				runtime.Gosched()
			} else {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	err := s.closeDisk() // who opens the directory next does not have to wait for it
	go s.finish()
	if wait {
		<-s.finished
	}
	return err
}

// finish takes all names away and leaves the rest to whoever lets go last. No call is in flight any more.
func (s *Store) finish() {
	for i := range s.shards {
		p := &s.shards[i]
		p.mu.Lock()
		for cursor, done := uint64(0), false; !done; {
			cursor, done = p.table.Scan(cursor, func(_, unit uint32) bool {
				s.kill(unit)
				return true
			})
		}
		p.table.Close()
		p.mu.Unlock()
	}
	s.warming.stop()
	s.warming.tasks.Wait()
	s.registry.Close()
	wake := s.words.Wake.Load()
	s.control.Close()
	// From here on the memory may be unmapped at any moment.
	close(s.finished)
	cell.Signal(wake)
}

// unmap gives back whatever there is of the store.
func (s *Store) unmap() error {
	err := s.closeDisk()
	if s.registry != nil {
		s.warming.stop()
		if err = errors.Join(err, s.registry.CloseMemory()); errors.Is(err, registry.ErrInUse) {
			return err // a device would go on in memory that is somebody else's by then
		}
		err = errors.Join(err, s.registry.CloseDevices())
	}
	if s.arena != nil {
		err = errors.Join(err, s.arena.Close())
	}
	if s.heap != nil {
		for i := range s.shards {
			if t := s.shards[i].table; t != nil {
				t.Close()
			}
		}
		s.heap.Close()
	}
	if s.control != nil {
		err = errors.Join(err, unmapControl(s.control))
	}
	return err
}
