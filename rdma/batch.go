package rdma

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Read copies Length bytes of a peer's region into one of ours. A length of zero copies nothing.
type Read struct {
	To         *Region
	ToOffset   uint64
	From       RemoteRegion
	FromOffset uint64
	Length     uint64
}

// check says what is wrong with a read before anything is posted.
func (r *Read) check(c *Conn) error {
	switch {
	case r.To == nil:
		return invalidf("To must be a region")
	case r.To.domain != c.domain:
		return invalidf("To is a region of another domain than the connection")
	case r.To.access&LocalTarget == 0:
		return invalidf("To was registered without LocalTarget")
	case r.ToOffset > r.To.length || r.Length > r.To.length-r.ToOffset:
		return invalidf("ToOffset %d and Length %d leave the region of %d bytes", r.ToOffset, r.Length, r.To.length)
	case r.FromOffset > r.From.Length || r.Length > r.From.Length-r.FromOffset:
		return invalidf("FromOffset %d and Length %d leave the peer's region of %d bytes", r.FromOffset, r.Length, r.From.Length)
	case r.From.Length > math.MaxUint64-r.From.Addr:
		return invalidf("From is a region of %d bytes at %#x", r.From.Length, r.From.Addr)
	case r.From.Epoch != c.peer.epoch:
		return ErrStale
	}
	return nil
}

// pieces is how many work requests a read needs.
func pieces(length, most uint64) int { return int(length/most + min(length%most, 1)) }

// Batch is a number of reads that were submitted together.
type Batch struct {
	conn     *Conn
	reads    []Read
	deadline time.Time
	done     chan struct{}

	// Under conn.mu, until done is closed.
	next     int    // the read that is posted next
	offset   uint64 // in it
	unposted int    // pieces
	left     int    // pieces that have not ended
	index    int    // in conn.active
	told     bool   // done is closed
	blame    error  // why the connection was given up for this batch's sake
	err      error
	errs     []error // for each read; nil when none failed
}

// Submit starts reads and returns at once. The reads must not change before the batch is done; their targets belong to the card
// until then. The deadline is that of ctx, or the connection's, whichever is earlier; a batch that is not done by then
// takes the connection with it. On an error nothing was started.
func (c *Conn) Submit(ctx context.Context, reads []Read) (*Batch, error) {
	b := &Batch{conn: c, reads: reads, done: make(chan struct{}), deadline: time.Now().Add(c.options.Timeout)}
	if d, ok := ctx.Deadline(); ok && d.Before(b.deadline) {
		b.deadline = d
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range reads {
		if err := reads[i].check(c); err != nil {
			return nil, fmt.Errorf("read %d: %w", i, err)
		}
		b.left += pieces(reads[i].Length, c.most)
	}
	b.unposted = b.left
	if err := b.hold(); err != nil {
		return nil, err
	}
	if b.left == 0 {
		b.release()
		close(b.done)
		return b, nil
	}
	if err := c.start(b); err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// Read is Submit and Wait.
func (c *Conn) Read(ctx context.Context, reads []Read) error {
	b, err := c.Submit(ctx, reads)
	if err != nil {
		return err
	}
	return b.Wait(ctx)
}

// eachTarget calls f once for each run of reads into the same region.
func (b *Batch) eachTarget(f func(r *Region, n int) error) error {
	for i := 0; i < len(b.reads); {
		n := 1
		for i+n < len(b.reads) && b.reads[i+n].To == b.reads[i].To {
			n++
		}
		if err := f(b.reads[i].To, n); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// hold keeps all targets registered, or none.
func (b *Batch) hold() error {
	held := 0
	err := b.eachTarget(func(r *Region, n int) error {
		err := r.hold(n)
		if err == nil {
			held += n
		}
		return err
	})
	if err != nil {
		part := Batch{reads: b.reads[:held]}
		part.release()
	}
	return err
}

func (b *Batch) release() {
	_ = b.eachTarget(func(r *Region, n int) error {
		r.release(n)
		return nil
	})
}

// Done is closed when the card will not touch the targets any more.
func (b *Batch) Done() <-chan struct{} { return b.done }

// Wait waits until the batch is done and returns its first error. When ctx ends before, the connection is given up, so that the
// targets are free again: Wait returns then, but never before the card is through with them. (With ErrQuarantined it is not.)
func (b *Batch) Wait(ctx context.Context) error {
	select {
	case <-b.done:
	case <-ctx.Done():
		b.conn.giveUp(b, fmt.Errorf("%w: %w", ErrDeadline, context.Cause(ctx)))
		<-b.done
	}
	return b.err
}

// Errors says for each read how it ended; nil when all went well. To be called when the batch is done.
func (b *Batch) Errors() []error {
	<-b.done
	return b.errs
}

// failed notes the error of a read. The caller holds conn.mu.
func (b *Batch) failed(read int, err error) {
	if b.blame != nil && errors.Is(err, ErrFlushed) {
		err = b.blame
	}
	if b.errs == nil {
		b.errs = make([]error, len(b.reads))
	}
	if b.errs[read] == nil {
		b.errs[read] = err
	}
	if b.err == nil {
		b.err = err
	}
}

// dropUnposted ends the pieces that were never posted. The caller holds conn.mu.
func (b *Batch) dropUnposted(err error) {
	for i := b.next; b.unposted > 0 && i < len(b.reads); i++ {
		if b.reads[i].Length > 0 {
			b.failed(i, err)
		}
	}
	b.left -= b.unposted
	b.unposted = 0
}
