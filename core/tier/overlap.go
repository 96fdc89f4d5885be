package tier

import (
	"context"
	"errors"
	"sync"

	"moorage/core/tier/blockio"
)

const (
	// overlapFrom is the size from which chunks are verified while others are being read.
	overlapFrom = 16 * ChunkBytes
	// So many complete chunks are worth waking somebody: a quarter of what is read, within these bounds.
	leastBatch, mostBatch = 8, 32
	// With all chunks in flight a device that serves them side by side completes all at the end. A quarter of them, and no fewer
	// than this, come one behind the other.
	leastFlying = 4
)

// overlap verifies chunks that are complete while the rest of the request is with the device, on a goroutine of its own: the
// thread that reaps does nothing else before the last completion. What is complete then and was not worth waking anybody, that
// thread verifies itself.
type overlap struct {
	base  uint64   // the first chunk
	left  []uint64 // bytes of each chunk that are not there yet
	kept  []chunks // complete, and nobody's
	count int      // of chunks in kept
	batch int

	started bool
	ready   chan chunks // has room for all; none closes it, an empty one is the end
	done    sync.WaitGroup

	mu    sync.Mutex
	spent int64
	err   error
}

// chunks are some in a row.
type chunks struct{ from, to uint64 }

func (r *reading) overlapped(ctx context.Context, from, to uint64) error {
	o := &r.overlap
	o.begin(from, to, min(to, r.size))
	t, err := r.d.engine.Do(ctx, &blockio.Request{
		Pieces: r.plan.pieces,
		Flying: max(leastFlying, int((to-from)>>20/4)),
		Chunk: func(piece, off, n int) {
			o.arrived(r, r.plan.starts[piece]+uint64(off), uint64(n))
		},
	})
	overlapped, began := o.soFar(), now()
	if err == nil {
		o.verify(r, o.kept)
	}
	o.end()
	r.io.step(t)
	r.io.VerifyOverlapped += overlapped
	r.io.Verify += now() - began
	if err != nil {
		return err
	}
	return o.err
}

// begin expects [from, to), of an object that ends at end.
func (o *overlap) begin(from, to, end uint64) {
	o.base = from / ChunkBytes
	n := chunksOf(end) - o.base
	o.left = o.left[:0]
	for i := range n {
		start := (o.base + i) * ChunkBytes
		o.left = append(o.left, min(start+ChunkBytes, to)-start)
	}
	o.batch = int(min(max(n/4, leastBatch), mostBatch))
	o.kept, o.count, o.started, o.spent, o.err = o.kept[:0], 0, false, 0, nil
}

// arrived takes in n bytes at an offset of the object.
func (o *overlap) arrived(r *reading, at, n uint64) {
	for end := at + n; at < end; {
		chunk := at / ChunkBytes
		part := min(end, (chunk+1)*ChunkBytes) - at
		if i := chunk - o.base; i < uint64(len(o.left)) {
			if o.left[i] -= part; o.left[i] == 0 {
				o.keep(chunk)
			}
		}
		at += part
	}
	if o.count < o.batch {
		return
	}
	if !o.started {
		o.start(r)
	}
	for _, some := range o.kept {
		o.ready <- some
	}
	o.kept, o.count = o.kept[:0], 0
}

func (o *overlap) keep(chunk uint64) {
	o.count++
	if n := len(o.kept); n > 0 && o.kept[n-1].to == chunk {
		o.kept[n-1].to++
		return
	}
	o.kept = append(o.kept, chunks{chunk, chunk + 1})
}

func (o *overlap) start(r *reading) {
	if room := len(o.left) + 1; cap(o.ready) < room {
		o.ready = make(chan chunks, room)
	}
	o.started = true
	o.done.Go(func() {
		for some := range o.ready {
			if some.from == some.to || !o.verify(r, []chunks{some}) {
				return
			}
		}
	})
}

// end waits for the goroutine.
func (o *overlap) end() {
	if !o.started {
		return
	}
	o.ready <- chunks{}
	o.done.Wait()
	if len(o.ready) > 0 { // it gave up
		o.ready = nil
	}
}

func (o *overlap) verify(r *reading, list []chunks) (good bool) {
	for _, some := range list {
		for chunk := some.from; chunk < some.to; chunk++ {
			began := now()
			err := r.check(chunk)
			o.mu.Lock()
			o.spent += now() - began
			o.err = errors.Join(o.err, err)
			o.mu.Unlock()
			if err != nil {
				return false
			}
		}
	}
	return true
}

func (o *overlap) soFar() int64 { o.mu.Lock(); defer o.mu.Unlock(); return o.spent }
