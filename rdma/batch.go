package rdma

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

// Read copies Length bytes of a peer's region into one of ours. A length of zero copies nothing.
type Read struct {
	To         *Region
	ToOffset   uint64
	From       RemoteRegion
	FromOffset uint64
	Length     uint64

	// Scatter, if there is any, stands in the place of To and ToOffset: the bytes go there one after another. It has Length bytes
	// in all.
	Scatter []Target
}

// Target is a part of a region of ours.
type Target struct {
	Region         *Region
	Offset, Length uint64
}

// targets is how many places the read goes to.
func (r *Read) targets() int {
	if r.Scatter == nil {
		return 1
	}
	return len(r.Scatter)
}

// target is number i of them.
func (r *Read) target(i int) Target {
	if r.Scatter == nil {
		return Target{r.To, r.ToOffset, r.Length}
	}
	return r.Scatter[i]
}

// check says what is wrong with a read before anything is posted.
func (r *Read) check(c *Conn) error {
	if err := r.checkTargets(c); err != nil {
		return err
	}
	switch {
	case r.FromOffset > r.From.Length || r.Length > r.From.Length-r.FromOffset:
		return invalidf("FromOffset %d and Length %d leave the peer's region of %d bytes", r.FromOffset, r.Length, r.From.Length)
	case r.From.Length > math.MaxUint64-r.From.Addr:
		return invalidf("From is a region of %d bytes at %#x", r.From.Length, r.From.Addr)
	case r.From.Epoch != c.peer.epoch:
		return ErrStale
	}
	return nil
}

func (r *Read) checkTargets(c *Conn) error {
	if r.Scatter == nil {
		return Target{r.To, r.ToOffset, r.Length}.check(c, "To", "ToOffset")
	}
	if r.To != nil || r.ToOffset != 0 {
		return invalidf("To and ToOffset must be zero beside Scatter")
	}
	rest := r.Length
	for i, t := range r.Scatter {
		if err := t.check(c, "Region", "Offset"); err != nil {
			return fmt.Errorf("number %d of Scatter: %w", i, err)
		}
		if t.Length > rest {
			return invalidf("Scatter has more than the %d bytes of Length", r.Length)
		}
		rest -= t.Length
	}
	if rest > 0 {
		return invalidf("Scatter has %d bytes less than Length", rest)
	}
	return nil
}

func (t Target) check(c *Conn, to, offset string) error {
	switch {
	case t.Region == nil:
		return invalidf("%s must be a region", to)
	case t.Region.domain != c.domain:
		return invalidf("%s is a region of another domain than the connection", to)
	case t.Region.access&LocalTarget == 0:
		return invalidf("%s was registered without LocalTarget", to)
	case t.Offset > t.Region.length || t.Length > t.Region.length-t.Offset:
		return invalidf("%s %d and Length %d leave the region of %d bytes", offset, t.Offset, t.Length, t.Region.length)
	}
	return nil
}

// place is where in a read the next piece begins.
type place struct {
	offset   uint64 // from its start
	target   int
	inTarget uint64
}

// cut makes the next piece of a read: at most so many bytes, in at most as many targets as there is room for. It returns how
// many targets it has; none when nothing is left.
func (r *Read) cut(p *place, most uint64, room []ibv.SGE) (n int) {
	for n < len(room) && most > 0 && p.offset < r.Length {
		t := r.target(p.target)
		if size := min(t.Length-p.inTarget, most); size > 0 {
			room[n] = ibv.SGE{Addr: t.Region.addr + t.Offset + p.inTarget, Len: uint32(size), LKey: t.Region.mr.LKey}
			p.offset, p.inTarget, most = p.offset+size, p.inTarget+size, most-size
			n++
		}
		if p.inTarget == t.Length {
			p.target, p.inTarget = p.target+1, 0
		}
	}
	return n
}

// pieces is how many work requests a read needs, each with at most so many bytes and targets.
func (r *Read) pieces(most uint64, targets int) (n int) {
	if r.Scatter == nil {
		return int(r.Length/most + min(r.Length%most, 1))
	}
	var room [shim.MaxTargets]ibv.SGE
	for p := (place{}); r.cut(&p, most, room[:targets]) > 0; {
		n++
	}
	return n
}

// Batch is a number of reads that were submitted together.
type Batch struct {
	conn     *Conn
	reads    []Read
	deadline time.Time
	done     chan struct{}

	// Under conn.mu, until done is closed.
	next     int   // the read that is posted next
	place    place // in it
	unposted int   // pieces
	left     int   // pieces that have not ended
	index    int   // in conn.active
	told     bool  // done is closed
	blame    error // why the connection was given up for this batch's sake
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
		b.left += reads[i].pieces(c.most, c.domain.targets())
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

// eachTarget calls f once for each run of targets in the same region, until it says false.
func (b *Batch) eachTarget(f func(r *Region, n int) bool) {
	var run *Region
	n := 0
	for i := range b.reads {
		for k := range b.reads[i].targets() {
			to := b.reads[i].target(k).Region
			if to == run {
				n++
				continue
			}
			if n > 0 && !f(run, n) {
				return
			}
			run, n = to, 1
		}
	}
	if n > 0 {
		f(run, n)
	}
}

// hold keeps all targets registered, or none.
func (b *Batch) hold() (err error) {
	held := 0
	b.eachTarget(func(r *Region, n int) bool {
		if err = r.hold(n); err == nil {
			held += n
		}
		return err == nil
	})
	if err != nil {
		b.releaseFirst(held)
	}
	return err
}

func (b *Batch) release() { b.releaseFirst(math.MaxInt) }

// releaseFirst releases so many targets, which end with a run.
func (b *Batch) releaseFirst(targets int) {
	b.eachTarget(func(r *Region, n int) bool {
		if targets == 0 {
			return false
		}
		r.release(n)
		targets -= n
		return true
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
