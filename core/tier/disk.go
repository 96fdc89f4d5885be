package tier

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/journal"
)

// Disk is a directory of objects. Safe for concurrent use.
type Disk struct {
	opts   Options
	fs     file.Dir
	engine *blockio.Engine
	slots  slots
	tier   [16]byte
	hasher hasher
	log    *journal.Log
	report Report

	shards   [shards]shard
	space    space
	policy   policy
	segments atomic.Pointer[[]*segment] // by number; grows under space.making
	maxSeq   atomic.Uint64
	buffered atomic.Bool // O_DIRECT does not work here, or is not wanted
	count    counters

	closing atomic.Bool   // nobody gets a hold any more
	closed  atomic.Bool   // nobody has one
	idle    chan struct{} // a shard has got rid of its last hold while closing
	stop    chan struct{}
	nudges  chan struct{}
	keeper  sync.WaitGroup
	failing atomic.Bool // the journal could not be written the last time

	filing files

	logged sync.Map // texts that Options.Log was given
}

// Open opens a directory, or makes it, and finds what is there. ErrLocked (of package file): it has another owner. ErrFormat: it
// is not one of ours, or a newer version's.
func Open(o Options) (d *Disk, err error) {
	const op = "open"
	o, err = o.filled()
	if err != nil {
		return nil, err
	}
	fs := o.FS
	if fs == nil {
		if fs, err = file.Open(o.Dir); err != nil {
			return nil, fail(op, err)
		}
	}
	d = &Disk{opts: o, fs: fs, idle: make(chan struct{}, 1), stop: make(chan struct{}), nudges: make(chan struct{}, 1)}
	d.space.d, d.space.capacity = d, o.Capacity/blocks.Size
	d.buffered.Store(o.Buffered)
	d.policy.init(d)
	if err = d.open(); err != nil {
		return nil, fail(op, errors.Join(err, d.shut()))
	}
	d.keeper.Add(1)
	go d.keep()
	return d, nil
}

func (d *Disk) open() (err error) {
	began := time.Now()
	if err = d.fs.Lock(); err != nil {
		return err
	}
	if d.engine, err = blockio.Open(d.opts.Engine); err != nil {
		return err
	}
	if err = d.slots.open(d.engine.Register); err != nil {
		return err
	}
	if err = d.recover(); err != nil {
		return err
	}
	d.report.Took = time.Since(began)
	return nil
}

// shut closes whatever is open.
func (d *Disk) shut() (err error) {
	if d.engine != nil {
		err = errors.Join(err, d.closeSegments(), d.engine.Close())
		d.slots.close()
	}
	if d.log != nil {
		err = errors.Join(err, d.log.Close())
	}
	return errors.Join(err, d.fs.Close())
}

// Close waits for the end of all holds and drafts, makes everything durable, and closes the directory.
func (d *Disk) Close() error {
	if d.closing.Swap(true) {
		return fail("close", ErrClosed)
	}
	d.awaitHolds()
	d.closed.Store(true)
	for i := range d.shards { // those who have not seen it are through
		s := &d.shards[i]
		s.mu.Lock()
		s.drafts = nil
		s.mu.Unlock()
	}
	close(d.stop)
	d.keeper.Wait()
	err := d.syncAll()
	if err == nil {
		d.log.Echo()
		d.log.Append(recordClean, journal.NoKey, nil)
		err = d.syncAll()
	}
	if err = errors.Join(err, d.shut()); err != nil {
		return fail("close", err)
	}
	return nil
}

func (d *Disk) awaitHolds() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for d.held() > 0 {
		select {
		case <-d.idle:
		case <-tick.C:
		}
	}
}

// held is how many entries and drafts somebody has.
func (d *Disk) held() (n int64) {
	for i := range d.shards {
		n += d.shards[i].held.Load()
	}
	return n
}

func (d *Disk) endHold(s *shard) {
	if s.held.Add(-1) == 0 && d.closing.Load() {
		d.wake()
	}
}

func (d *Disk) wake() {
	select {
	case d.idle <- struct{}{}:
	default:
	}
}

func (d *Disk) shard(hash uint64) *shard { return &d.shards[hash>>(64-shardBits)] }

// hold looks a name up and holds its entry.
func (d *Disk) hold(key []byte) *Entry {
	hash := d.hasher.hash(key)
	s := d.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.table.find(hash, key)
	if e == nil {
		return nil
	}
	s.held.Add(1) // before closing is looked at: see awaitHolds
	if d.closing.Load() {
		d.endHold(s)
		return nil
	}
	e.holds.Add(1)
	return e
}

// Lookup finds an object and holds it; the caller ends that with Release. It is an access.
func (d *Disk) Lookup(key []byte) (*Entry, bool) {
	e := d.hold(key)
	if e == nil {
		d.count.misses.Add(1)
		return nil, false
	}
	e.hit()
	d.count.hits.Add(1)
	return e, true
}

// Has says whether there is an object. It is not an access.
func (d *Disk) Has(key []byte) bool {
	return d.with(key, func(*shard, *Entry) bool { return true })
}

// HasSeq says whether there is the object with that sequence number.
func (d *Disk) HasSeq(key []byte, seq uint64) bool {
	return d.with(key, func(_ *shard, e *Entry) bool { return e.Seq() == seq })
}

// with calls do with the entry of a name, under its shard's lock for reading; false when there is none.
func (d *Disk) with(key []byte, do func(*shard, *Entry) bool) bool {
	hash := d.hasher.hash(key)
	s := d.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.table.find(hash, key)
	return e != nil && !d.closed.Load() && do(s, e)
}

// SetResident notes whether an object is in memory, too. found is false when there is no entry with that sequence number. It only
// changes the index.
func (d *Disk) SetResident(key []byte, seq uint64, on bool) (found bool) {
	hash := d.hasher.hash(key)
	s := d.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.table.find(hash, key)
	if e == nil || e.Seq() != seq || d.closed.Load() {
		return false
	}
	switch was := e.resident.Swap(on); {
	case on && !was:
		s.resident++
	case !on && was:
		s.resident--
	}
	return true
}

// MaxSeq is the largest sequence number that was ever recorded here.
func (d *Disk) MaxSeq() uint64 { return d.maxSeq.Load() }

// Counts says how many objects there are, and how many of them are in memory, too.
func (d *Disk) Counts() (entries, resident uint64) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.RLock()
		entries += uint64(s.table.len)
		resident += s.resident
		s.mu.RUnlock()
	}
	return entries, resident
}

// Len is how many objects there are.
func (d *Disk) Len() int { n, _ := d.Counts(); return int(n) }

// UsedBytes is what the objects take on disk.
func (d *Disk) UsedBytes() uint64 { return d.space.used.Load() * blocks.Size }

// Sync makes everything durable that was committed or removed before the call.
func (d *Disk) Sync() error {
	if d.closed.Load() {
		return fail("sync", ErrClosed)
	}
	if err := d.syncAll(); err != nil {
		return fail("sync", err)
	}
	return nil
}

func (d *Disk) syncAll() error { return d.syncTo(d.log.Last()) }

func (d *Disk) syncTo(lsn uint64) error {
	return d.noted(d.log.Sync(lsn, d.syncSegments))
}

// Settle makes what was removed before the call as lasting as a commit: durable with Each, written with None.
func (d *Disk) Settle() error {
	var err error
	switch {
	case d.closed.Load():
		err = ErrClosed
	case d.opts.Durability == Each:
		err = d.syncAll()
	case d.opts.Durability == None:
		err = d.noted(d.log.Write(d.log.Last()))
	}
	if err != nil {
		return fail("settle", err)
	}
	return nil
}

// noted remembers whether the journal can be written.
func (d *Disk) noted(err error) error {
	if bad := err != nil; bad != d.failing.Load() {
		d.failing.Store(bad)
	}
	return err
}

// ready refuses a commit when the journal could not be written and still cannot: its records would pile up in memory.
func (d *Disk) ready() error {
	if err := d.log.Err(); err != nil {
		return err
	}
	if !d.failing.Load() {
		return nil
	}
	if d.opts.Durability == None {
		return d.noted(d.log.Write(d.log.Last()))
	}
	return d.syncAll()
}

// Engine is what reads and writes: a registry.Device, so that a store can register its memory with it.
func (d *Disk) Engine() *blockio.Engine { return d.engine }

// Recovered is what Open found.
func (d *Disk) Recovered() Report { return d.report }

// log1 gives a text to the log, once.
func (d *Disk) log1(text string) {
	if _, seen := d.logged.LoadOrStore(text, true); !seen {
		d.opts.Log(text)
	}
}

func newTier() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}
