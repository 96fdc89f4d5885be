package core

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moorage/core/registry"
	"moorage/core/tier"
	"moorage/core/tier/file"
	"moorage/core/tier/probe"
	"moorage/core/tier/timing"
)

// Promote says when an object that was read from disk stays in memory under its name.
type Promote uint8

const (
	PromoteAlways    Promote = iota // with the first read
	PromoteSecondHit                // with the second
	PromoteNever                    // never; each read is a read of the disk
)

// DiskOptions say where objects go that memory has no room for. Without a Dir there is no such place.
type DiskOptions struct {
	tier.Options

	Promote      Promote
	WriteThrough bool // a put returns when its object is on disk as well

	Trace string // a file for a line of JSON per operation; empty: none
}

func (o DiskOptions) on() bool { return o.Dir != "" || o.FS != nil }

func (o DiskOptions) check() error {
	if o.Promote > PromoteNever {
		return failf("open", ErrInvalid, "promote %d", o.Promote)
	}
	return nil
}

// tiered is what a store with a disk has besides. An object is in memory, on disk, or in both; who has the key in memory
// does not ask the disk. The disk's index is locked behind a shard's lock, never before it. An entry of the disk is the
// object that memory has under that key if their numbers are equal, and an older one that is about to go if not.
type tiered struct {
	disk    *tier.Disk
	opts    DiskOptions
	timings *timing.Recorder
	buffers *registry.Attached // the slabs of memory as fixed buffers
	place   probe.Report       // of the directory
	trace   *traceFile         // nil without one

	ctx  context.Context // ends with the store
	stop context.CancelFunc

	flights   flights
	moves     atomic.Uint64 // objects that got their names in memory back; changed under their shards' locks
	demotions demotions
	cleaner   cleaner
	promises  promises
	count     struct {
		promoted, demoted, shared atomic.Uint64
	}
	closeOnce sync.Once
}

// openDisk is the last step of opening, and finds again what was persistent.
func (s *Store) openDisk() error {
	if !s.opts.Disk.on() {
		return nil
	}
	o := s.opts.Disk
	o.FullEvicts = s.opts.Eviction != EvictNone
	if o.Capacity == 0 {
		o.Capacity = roomIn(o.Dir)
	}
	disk, err := tier.Open(o.Options)
	switch {
	case errors.Is(err, file.ErrLocked), errors.Is(err, tier.ErrInvalid), errors.Is(err, tier.ErrFormat), errors.Is(err, tier.ErrDamaged):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	t := &tiered{disk: disk, opts: o}
	if t.trace, err = openTrace(o.Trace); err != nil {
		return errors.Join(fmt.Errorf("%w: trace: %w", ErrDisk, err), disk.Close())
	}
	t.timings = timing.NewRecorder(0, t.trace.lines())
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.flights.all = map[flightName]*flight{}
	t.promises.of = map[uint32]uint64{}
	t.demotions.ended.L, t.demotions.units = &t.demotions.mu, map[uint32]int{}
	s.seq.Store(disk.MaxSeq())
	s.tiered = t
	if o.FS == nil {
		if t.place, err = probe.Directory(o.Dir); err != nil {
			return errors.Join(fmt.Errorf("%w: %w", ErrDisk, err), s.closeDisk())
		}
	}
	if t.buffers, err = s.registry.Attach(slabs{disk.Engine()}); err != nil {
		return errors.Join(err, s.closeDisk())
	}
	s.startCleaner()
	return nil
}

// InspectDirectory says what a directory offers to a disk.
func InspectDirectory(dir string) (probe.Report, error) {
	r, err := probe.Directory(dir)
	if err != nil {
		return r, fail("inspect", fmt.Errorf("%w: %w", ErrDisk, err))
	}
	return r, nil
}

// roomIn is 90 % of what is free in a directory, and of what its files take already. It may not be there yet.
func roomIn(dir string) uint64 {
	var fs unix.Statfs_t
	for at := dir; unix.Statfs(at, &fs) != nil; at = filepath.Dir(at) {
		if at == filepath.Dir(at) {
			return 0
		}
	}
	room := fs.Bavail * uint64(fs.Bsize)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			room += uint64(info.Size())
		}
	}
	return room / 10 * 9
}

// slabs is the disk's engine as a device: memory of the store becomes its fixed buffers. It is the disk that closes it.
type slabs struct{ registry.Device }

// closeDisk ends all reads and writes, and gives the directory free. An error, ErrDisk: what was not durable may not be found again.
func (s *Store) closeDisk() (err error) {
	if t := s.tiered; t != nil {
		t.closeOnce.Do(func() {
			t.stop()
			if t.cleaner.ended != nil {
				<-t.cleaner.ended
			}
			err = errors.Join(t.disk.Close(), t.trace.close())
		})
	}
	if err != nil {
		return fail("close", fmt.Errorf("%w: %w", ErrDisk, err))
	}
	return nil
}

// onDisk reports whether the disk has an object under key. Where it matters that none comes or goes, the shard is locked.
func (s *Store) onDisk(key []byte) bool { return s.tiered != nil && s.tiered.disk.Has(key) }

// seqOnDisk is the number of the object that the disk has under key, 0 if it has none.
func (s *Store) seqOnDisk(key []byte) uint64 {
	if s.tiered == nil {
		return 0
	}
	e, ok := s.tiered.disk.Peek(key)
	if !ok {
		return 0
	}
	defer e.Release()
	return e.Seq()
}

// through is the end of a put that writes through. After an error the object is in memory, and not on disk. r is the put's
// record; nil: it has none, and the write gets one.
func (s *Store) through(op string, key []byte, r *timing.Record) (err error) {
	if s.tiered == nil || !s.tiered.opts.WriteThrough {
		return nil
	}
	if r == nil {
		own := timing.Queued(timing.Put, 0)
		r = &own
		defer func() { s.tiered.record(r, err) }()
	}
	// What was on disk under the key was removed by the put: that record stands before the object's, and is as lasting.
	err = s.persist(op, key, r)
	if errors.Is(err, ErrNotFound) {
		return nil // somebody removed it meanwhile
	}
	if err != nil {
		return failf(op, ErrDisk, "key %q is in memory, and could not be written to disk: %w", key, err)
	}
	return nil
}

// classifyDisk gives an error of the disk its place among the errors of a store.
func classifyDisk(err error, key []byte) error {
	for _, c := range []struct{ from, to error }{
		{context.Canceled, ErrCancelled}, {tier.ErrDamaged, ErrDamaged}, {tier.ErrClosed, ErrCancelled},
	} {
		if errors.Is(err, c.from) {
			return fmt.Errorf("%w: key %q: %w", c.to, key, err)
		}
	}
	return fmt.Errorf("%w: key %q: %w", ErrDisk, key, err)
}

// Recovered says what opening found on the disk; the zero value without one.
func (s *Store) Recovered() tier.Report {
	if s.tiered == nil {
		return tier.Report{}
	}
	return s.tiered.disk.Recovered()
}

// DiskStats are figures of the disk, since the store was opened.
type DiskStats struct {
	tier.Stats
	Recovered, Lost                    uint64 // objects that opening found, and entries that it found damaged
	SharedReads, Promotions, Demotions uint64
	MemoryBacked                       bool // the directory lies in memory
}

// DiskStats looks at everything once. The figures are not of one moment.
func (s *Store) DiskStats() (DiskStats, error) {
	const op = "disk stats"
	gate := s.anyShard()
	if !gate.enter(s) {
		return DiskStats{}, fail(op, ErrClosed)
	}
	defer gate.leave()
	t := s.tiered
	if t == nil {
		return DiskStats{}, fail(op, errNoDisk)
	}
	found := t.disk.Recovered()
	return DiskStats{
		Stats: t.disk.Stats(), Recovered: uint64(found.Objects), Lost: uint64(len(found.Lost)),
		MemoryBacked: t.place.Memory != "", SharedReads: t.count.shared.Load(), Promotions: t.count.promoted.Load(), Demotions: t.count.demoted.Load(),
	}, nil
}
