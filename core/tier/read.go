package tier

import (
	"context"
	"sync"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
)

// Read reads n bytes of an object, from off on, to memory: straight where a block of the file meets an aligned address, and
// through slots at the edges. Nothing outside of the n bytes is written to, but what Memory.Room allows. An error leaves the
// n bytes undefined: ErrDamaged when a checksum is wrong, and then the object is gone.
func (d *Disk) Read(ctx context.Context, e *Entry, to Memory, off, n uint64) (io IO, err error) {
	const op = "read"
	size := e.Bytes()
	if off > size || n > size-off {
		return io, failf(op, ErrInvalid, "%d bytes from %d on of an object of %d", n, off, size)
	}
	if d.closed.Load() {
		return io, fail(op, ErrClosed)
	}
	if e.damaged.Load() {
		return io, fail(op, &DamagedError{Key: e.Key(), Bytes: size, Promised: !e.unproved.Load()})
	}
	verify := d.verifies(e)
	if n > 0 {
		r := readings.Get().(*reading)
		r.d, r.e, r.size, r.to, r.off, r.end, r.verify = d, e, size, to, off, off+n, verify
		err = r.run(ctx)
		io = r.io
		r.done()
	}
	io.Verified = verify && err == nil
	d.counted(&io, err, false)
	if err != nil {
		return io, fail(op, err)
	}
	if io.Verified && n == size && e.unproved.Load() {
		e.unproved.Store(false)
	}
	return io, nil
}

func (d *Disk) verifies(e *Entry) bool {
	switch {
	case d.opts.Verify == Always || e.unproved.Load():
		return true
	case d.opts.Verify == Off:
		return false
	}
	return d.count.sample.Add(1)%SampleEvery == 1
}

// reading is one read. It is used again, with the room that it has made.
type reading struct {
	d        *Disk
	e        *Entry
	runs     []blocks.Run
	size     uint64
	to       Memory
	off, end uint64 // what is asked for
	verify   bool
	plan     plan
	areas    [3]area
	overlap  overlap
	io       IO
}

var readings = sync.Pool{New: func() any { return new(reading) }}

func (r *reading) done() {
	r.plan.reset()
	clear(r.plan.pieces[:cap(r.plan.pieces)])
	r.runs = r.runs[:0]
	r.d, r.e, r.to, r.areas, r.io = nil, nil, Memory{}, [3]area{}, IO{}
	readings.Put(r)
}

func (r *reading) run(ctx context.Context) error {
	r.runs = r.e.body.appendRuns(r.runs)
	if r.d.opts.Mapped {
		return r.mapped()
	}
	// What goes straight to its place: whole blocks.
	first, last := up(r.off), down(r.end)
	if r.to.Room >= up(r.end)-r.off {
		last = up(r.end)
	}
	if r.end-r.off < bounceBelow || first >= last || !r.to.inPlace(first-r.off, last-first, r.d.engine.Align()) {
		return r.bounced(ctx)
	}
	return r.direct(ctx, first, last)
}

// bounds is what has to be read: with checksums, whole chunks.
func (r *reading) bounds() (from, to uint64) {
	if !r.verify {
		return down(r.off), up(r.end)
	}
	return r.off / ChunkBytes * ChunkBytes, up(min((r.end+ChunkBytes-1)/ChunkBytes*ChunkBytes, r.size))
}

// direct reads [first, last) to its place and what is around it into slots, all in one request.
func (r *reading) direct(ctx context.Context, first, last uint64) error {
	from, to := r.bounds()
	to = max(to, last)
	var head, tail slot
	var err error
	if from < first {
		if head, err = r.d.slots.take(); err != nil {
			return err
		}
		defer r.d.slots.give(head)
		r.plan.slot(r.d, r.runs, from, first, head)
	}
	r.plan.memory(r.d, r.runs, first, last, &r.to, first-r.off)
	if last < to {
		if tail, err = r.d.slots.take(); err != nil {
			return err
		}
		defer r.d.slots.give(tail)
		r.plan.slot(r.d, r.runs, last, to, tail)
	}
	r.areas = [3]area{
		{from, first, head.addr}, {first, last, r.to.Addr + uintptr(first-r.off)}, {last, to, tail.addr},
	}
	if err := r.move(ctx, from, to); err != nil {
		return err
	}
	r.copyOut(&r.areas[0])
	r.copyOut(&r.areas[2])
	return nil
}

// copyOut copies what was asked for from a slot.
func (r *reading) copyOut(a *area) {
	from, to := max(a.from, r.off), min(a.to, r.end)
	if from >= to {
		return
	}
	began := now()
	copy(bytesAt(r.to.Addr+uintptr(from-r.off), to-from), bytesAt(a.addr+uintptr(from-a.from), to-from))
	r.io.Copy += now() - began
	r.io.Bounced += to - from
}

// move does the I/O of the plan and compares the chunks in [from, to) with their checksums.
func (r *reading) move(ctx context.Context, from, to uint64) error {
	if !r.verify {
		t, err := r.d.engine.Do(ctx, &blockio.Request{Pieces: r.plan.pieces})
		r.io.step(t)
		return err
	}
	if to-from >= overlapFrom {
		return r.overlapped(ctx, from, to)
	}
	t, err := r.d.engine.Do(ctx, &blockio.Request{Pieces: r.plan.pieces})
	r.io.step(t)
	if err != nil {
		return err
	}
	began := now()
	defer func() { r.io.Verify += now() - began }()
	for chunk := from / ChunkBytes; chunk < chunksOf(min(to, r.size)); chunk++ {
		if err := r.check(chunk); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) check(chunk uint64) error {
	if checksum(chunk, r.size, r.areas[:]) == r.e.body.crc(chunk) {
		return nil
	}
	return r.d.damaged(r.e, chunk)
}

// windowSlots is how many slots a read or write of memory that is not aligned has at a time.
const windowSlots = 8

// bounced reads everything through slots, a chunk in each.
func (r *reading) bounced(ctx context.Context) error {
	from, to := r.bounds()
	for from < to {
		next, err := r.window(ctx, from, to)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

func (r *reading) window(ctx context.Context, from, to uint64) (next uint64, err error) {
	var held [windowSlots]slot
	var areas [windowSlots]area
	n := 0
	defer func() {
		for _, s := range held[:n] {
			r.d.slots.give(s)
		}
	}()
	r.plan.reset()
	for from < to && n < windowSlots {
		if held[n], err = r.d.slots.take(); err != nil {
			return 0, err
		}
		n++
		end := min(to, (from/ChunkBytes+1)*ChunkBytes)
		r.plan.slot(r.d, r.runs, from, end, held[n-1])
		areas[n-1] = area{from, end, held[n-1].addr}
		from = end
	}
	t, err := r.d.engine.Do(ctx, &blockio.Request{Pieces: r.plan.pieces})
	r.io.step(t)
	if err != nil {
		return 0, err
	}
	for i := range areas[:n] {
		if err := r.fromSlot(&areas[i]); err != nil {
			return 0, err
		}
	}
	return from, nil
}

// fromSlot verifies a chunk in its slot and copies what was asked for.
func (r *reading) fromSlot(a *area) error {
	if r.verify {
		began := now()
		r.areas = [3]area{*a}
		err := r.check(a.from / ChunkBytes)
		r.io.Verify += now() - began
		if err != nil {
			return err
		}
	}
	r.copyOut(a)
	return nil
}

// damaged takes an object away whose bytes are not its own.
func (d *Disk) damaged(e *Entry, chunk uint64) error {
	promised := !e.unproved.Load()
	if !e.damaged.Swap(true) {
		if promised {
			d.count.damaged.Add(1)
		} else {
			d.count.missed.Add(1)
		}
		d.unlink(e)
	}
	from := chunk * ChunkBytes
	return &DamagedError{
		Key: append([]byte(nil), e.Key()...), Offset: from, Bytes: min(from+ChunkBytes, e.Bytes()) - from, Promised: promised,
	}
}
