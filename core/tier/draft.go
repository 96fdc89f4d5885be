package tier

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"moorage/core/index"
	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
)

// Draft is an object that is being written. It belongs to one caller, who ends it with Commit or Drop.
type Draft struct {
	d    *Disk
	hash uint64
	key  []byte
	seq  uint64
	size uint64
	runs []blocks.Run
	crcs []uint32

	written bool
	ended   bool
	sync    [2]int64 // when Commit began to wait for the journal, and when that ended

	// Guarded by the shard.
	cancelled bool   // a removal that covers it came
	recorded  uint64 // the number of its record; 0: none yet
	removal   uint64 // and of the one that takes it back
}

// Reserve takes blocks for an object of size bytes that is to be known under key. seq is its sequence number: of two objects of
// one key the one with the larger number stays. ErrFull: a FullError says why there is no room.
func (d *Disk) Reserve(key []byte, seq, size uint64) (*Draft, error) {
	const op = "reserve"
	if _, err := index.BodyBytes(len(key), 0, 0); err != nil {
		return nil, failf(op, ErrInvalid, "%w", err)
	}
	if size > MaxObject {
		return nil, failf(op, ErrInvalid, "an object of %d bytes: at most %d", size, uint64(MaxObject))
	}
	w := &Draft{d: d, hash: d.hasher.hash(key), key: slices.Clone(key), seq: seq, size: size}
	s := d.shard(w.hash)
	s.held.Add(1)
	if d.closing.Load() {
		d.endHold(s)
		return nil, fail(op, ErrClosed)
	}
	raise(&d.maxSeq, seq)
	s.mu.Lock()
	s.drafts = append(s.drafts, w)
	s.mu.Unlock()
	runs, err := d.space.find(blocksOf(size))
	if err != nil {
		w.end()
		return nil, fail(op, err)
	}
	w.runs = runs
	return w, nil
}

func raise(v *atomic.Uint64, to uint64) {
	for have := v.Load(); have < to && !v.CompareAndSwap(have, to); have = v.Load() {
	}
}

// end takes the draft off the list of its shard.
func (w *Draft) end() {
	s := w.d.shard(w.hash)
	s.mu.Lock()
	if i := slices.Index(s.drafts, w); i >= 0 {
		s.drafts = slices.Delete(s.drafts, i, i+1)
	}
	s.mu.Unlock()
	w.ended = true
	w.d.endHold(s)
}

// Drop gives the blocks back. Nothing of the object remains. After Commit it does nothing.
func (w *Draft) Drop() {
	if w.ended {
		return
	}
	w.d.space.drop(w.runs)
	w.end()
}

// Write writes the object's bytes from memory, which must not change meanwhile.
func (w *Draft) Write(ctx context.Context, from Memory) (io IO, err error) {
	const op = "write"
	if w.ended {
		return io, failf(op, ErrInvalid, "the draft has ended")
	}
	r := writing{w: w, from: from}
	if w.size > 0 {
		err = r.run(ctx)
	}
	w.d.counted(&r.io, err, true)
	if err != nil {
		return r.io, fail(op, err)
	}
	w.written = true
	return r.io, nil
}

// writing is one write.
type writing struct {
	w    *Draft
	from Memory
	plan plan
	io   IO
}

func (r *writing) run(ctx context.Context) error {
	w := r.w
	w.crcs = make([]uint32, chunksOf(w.size))
	full := down(w.size)
	if w.size < bounceBelow || !r.from.inPlace(0, full, w.d.engine.Align()) {
		return r.bounced(ctx)
	}
	r.plan.memory(w.d, w.runs, 0, full, &r.from, 0)
	if full < w.size {
		s, err := w.d.slots.take()
		if err != nil {
			return err
		}
		defer w.d.slots.give(s)
		r.toSlot(s, full, w.size)
		r.plan.slot(w.d, w.runs, full, up(w.size), s)
	}
	var sums sync.WaitGroup
	var spent int64
	sums.Add(1)
	checksums := func() {
		defer sums.Done()
		began := now()
		r.checksums(0, w.size, r.from.Addr)
		spent = now() - began
	}
	if w.size < overlapFrom {
		checksums()
		r.io.Verify = spent
	} else {
		go checksums()
	}
	t, err := w.d.engine.Do(ctx, &blockio.Request{Write: true, Pieces: r.plan.pieces})
	began := now()
	sums.Wait()
	if w.size >= overlapFrom {
		r.io.Verify = now() - began
		r.io.VerifyOverlapped = max(0, spent-r.io.Verify)
	}
	r.io.step(t)
	return err
}

// toSlot copies [from, to) into a slot, and zeros up to the end of the block.
func (r *writing) toSlot(s slot, from, to uint64) {
	began := now()
	copy(bytesAt(s.addr, to-from), bytesAt(r.from.Addr+uintptr(from), to-from))
	clear(bytesAt(s.addr+uintptr(to-from), up(to)-to))
	r.io.Copy += now() - began
	r.io.Bounced += to - from
}

// checksums makes those of the chunks of [from, to), whose bytes lie at addr. from is where a chunk begins.
func (r *writing) checksums(from, to uint64, addr uintptr) {
	areas := []area{{from, to, addr}}
	for chunk := from / ChunkBytes; chunk < chunksOf(to); chunk++ {
		r.w.crcs[chunk] = checksum(chunk, r.w.size, areas)
	}
}

// bounced writes everything through slots.
func (r *writing) bounced(ctx context.Context) error {
	for from := uint64(0); from < r.w.size; {
		next, err := r.window(ctx, from)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

func (r *writing) window(ctx context.Context, from uint64) (next uint64, err error) {
	w := r.w
	var held [windowSlots]slot
	n := 0
	defer func() {
		for _, s := range held[:n] {
			w.d.slots.give(s)
		}
	}()
	r.plan.reset()
	for from < w.size && n < windowSlots {
		if held[n], err = w.d.slots.take(); err != nil {
			return 0, err
		}
		n++
		to := min(w.size, from+ChunkBytes)
		r.toSlot(held[n-1], from, to)
		began := now()
		r.checksums(from, to, held[n-1].addr)
		r.io.Verify += now() - began
		r.plan.slot(w.d, w.runs, from, up(to), held[n-1])
		from = to
	}
	t, err := w.d.engine.Do(ctx, &blockio.Request{Write: true, Pieces: r.plan.pieces})
	r.io.step(t)
	return from, err
}

// Waited says when Commit began to wait for the journal and when that ended, in nanoseconds of CLOCK_MONOTONIC: the syncs, if
// objects are made durable one by one. 0, 0: it did not wait.
func (w *Draft) Waited() (from, to int64) { return w.sync[0], w.sync[1] }

// Commit gives the object its name, in place of an older one. Of c the key is not used: it is Reserve's. stored false: a
// removal that covers it came since Reserve, or a newer one is there; nothing of it remains then. With Each it is durable when Commit
// returns. An error: it is not there.
func (w *Draft) Commit(c index.Content) (stored bool, err error) {
	const op = "commit"
	c.Key = w.key
	if w.ended {
		return false, failf(op, ErrInvalid, "the draft has ended")
	}
	if _, err := index.BodyBytes(len(c.Key), len(c.Shape), len(c.Meta)); err != nil {
		return false, failf(op, ErrInvalid, "%w", err)
	}
	if !w.written && w.size > 0 {
		return false, failf(op, ErrInvalid, "nothing was written")
	}
	if err := w.d.ready(); err != nil {
		return false, fail(op, err)
	}
	e := &Entry{d: w.d, hash: w.hash, body: makeBody(w.seq, w.size, w.runs, w.crcs, c)}
	e.holds.Store(1)
	if w.d.opts.Durability == Each {
		stored, err = w.commitDurable(e)
	} else {
		stored, err = w.commitSoon(e)
	}
	w.end()
	if err != nil {
		return false, fail(op, err)
	}
	if w.d.filing.due(w.d) {
		w.d.nudge()
	}
	return stored, nil
}

// superseded says whether the draft must not be recorded any more. The shard is locked. same: what is there is as new.
func (w *Draft) superseded(s *shard) (superseded, same bool) {
	if w.cancelled {
		return true, false
	}
	if old := s.table.find(w.hash, w.key); old != nil && old.Seq() >= w.seq {
		return true, old.Seq() == w.seq
	}
	return false, false
}

// record appends the object's record. The shard is locked.
func (w *Draft) record(e *Entry) {
	w.d.wrote(w.runs)
	e.lsn = w.d.log.Append(recordPut, w.hash, e.body)
	w.recorded = e.lsn
}

// commitSoon gives the object its name at once, and with None writes its record before it returns.
func (w *Draft) commitSoon(e *Entry) (stored bool, err error) {
	s := w.d.shard(w.hash)
	s.mu.Lock()
	if superseded, same := w.superseded(s); superseded {
		s.mu.Unlock()
		w.d.space.drop(w.runs)
		return same, nil
	}
	w.record(e)
	lsn, old := e.lsn, w.d.publish(s, e)
	s.mu.Unlock()
	w.d.published(e, old)
	if w.d.opts.Durability == Batch {
		w.d.nudge()
		return true, nil
	}
	w.sync[0] = now()
	err = w.d.log.Write(lsn)
	w.sync[1] = now()
	if err != nil {
		w.d.unlinkLSN(w.hash, w.key, lsn)
	}
	return err == nil, err
}

// commitDurable makes the record durable and then gives the object its name.
func (w *Draft) commitDurable(e *Entry) (stored bool, err error) {
	s := w.d.shard(w.hash)
	s.mu.Lock()
	superseded, same := w.superseded(s)
	twin := w.twin(s)
	if superseded || twin {
		s.mu.Unlock()
		w.d.space.drop(w.runs)
		if twin {
			err = w.d.syncAll()
			same = err == nil && w.d.HasSeq(w.key, w.seq)
		}
		return same, err
	}
	w.record(e)
	s.mu.Unlock()

	w.sync[0] = now()
	err = w.d.syncTo(e.lsn)
	w.sync[1] = now()

	s.mu.Lock()
	superseded, same = w.superseded(s)
	if err == nil && !superseded {
		old := w.d.publish(s, e)
		s.mu.Unlock()
		w.d.published(e, old)
		return true, nil
	}
	e.removal = w.removal
	if e.removal == 0 && err == nil {
		e.removal = max(e.lsn, s.table.find(w.hash, w.key).lsn) // the newer one's record takes it away
	}
	if e.removal == 0 {
		e.removal = w.d.log.Append(recordRemove, w.hash, makeRemoval(w.seq, w.key))
	}
	s.mu.Unlock()
	w.d.space.never(e.blocks())
	e.letGo()
	return err == nil && same, err
}

// twin says whether another draft of the same object is recorded and waits to be durable. The shard is locked.
func (w *Draft) twin(s *shard) bool {
	return slices.ContainsFunc(s.drafts, func(o *Draft) bool {
		return o != w && o.recorded != 0 && o.removal == 0 && o.seq == w.seq && o.hash == w.hash && slices.Equal(o.key, w.key)
	})
}

// publish gives an entry its name in place of what is there, which it returns. The shard is locked.
func (d *Disk) publish(s *shard, e *Entry) (old *Entry) {
	if old = s.table.find(e.hash, e.body.key()); old != nil {
		d.leave(s, old, e.lsn)
	}
	s.table.insert(e)
	s.bytes += e.Bytes()
	d.space.published(e.blocks())
	return old
}

// leave takes an entry's name away; its record is that of the number. The shard is locked. The caller lets go afterwards.
func (d *Disk) leave(s *shard, e *Entry, removal uint64) {
	s.table.remove(e)
	s.bytes -= e.Bytes()
	if e.resident.Load() {
		s.resident--
	}
	e.removal = removal
	d.space.unpublished(e.blocks())
}

// published tells the policy, and lets go of what was replaced. No lock is held.
func (d *Disk) published(e, old *Entry) {
	d.policy.added(e)
	if old != nil {
		d.count.replaced.Add(1)
		d.gone(old)
	}
}

// gone is called once for each entry that has lost its name other than by eviction.
func (d *Disk) gone(e *Entry) {
	d.policy.removed()
	e.letGo()
}
