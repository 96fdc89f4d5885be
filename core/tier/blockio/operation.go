package blockio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func (r *Request) verb() string {
	if r.Write {
		return "write"
	}
	return "read"
}

// hold checks a request and holds its segments. The path is the worst that a piece needs.
func (e *Engine) hold(r *Request) (path Path, err error) {
	path = e.options.MaxPath
	for i := range r.Pieces {
		p := &r.Pieces[i]
		err := e.check(i, p)
		if err == nil && !p.File.use.TryRLock() {
			err = fail(r.verb(), ErrDropped)
		}
		if err != nil {
			for _, held := range r.Pieces[:i] {
				held.File.use.RUnlock()
			}
			return path, err
		}
		path = max(path, p.File.path)
		if path == UringFixed {
			if g, _ := p.Buffer.(*Region); g == nil || !g.Registered() {
				path = Uring
			}
		}
	}
	return path, nil
}

func release(r *Request) {
	for i := range r.Pieces {
		r.Pieces[i].File.use.RUnlock()
	}
}

func (e *Engine) check(i int, p *Piece) error {
	s, align := p.File, e.options.Align-1
	switch {
	case s == nil:
		return invalid("piece %d has no File", i)
	case s.engine != e:
		return invalid("File of piece %d is of another engine", i)
	case p.Len <= 0 || p.Off < 0 || p.Off+int64(p.Len) < p.Off:
		return invalid("piece %d is %d bytes at %d of its file", i, p.Len, p.Off)
	case p.Addr == 0 || p.Addr+uintptr(p.Len) < p.Addr:
		return invalid("piece %d is %d bytes at address 0x%x", i, p.Len, p.Addr)
	case s.direct && (int(p.Addr)|int(p.Off)|p.Len)&align != 0:
		return invalid("piece %d, %d bytes at address 0x%x and at %d of its file, is not aligned to %d", i, p.Len, p.Addr,
			p.Off, e.options.Align)
	}
	if p.Buffer == nil {
		return nil
	}
	g, ok := p.Buffer.(*Region)
	if !ok || g == nil || g.engine != e {
		return invalid("Buffer of piece %d was not registered with this engine", i)
	}
	if !g.covers(p.Addr, p.Len) {
		return invalid("piece %d, %d bytes at address 0x%x, lies outside of its Buffer", i, p.Len, p.Addr)
	}
	return nil
}

// operation is a request under way.
type operation struct {
	request   *Request
	done      func(Times, error) // of Go
	times     Times
	err       error // the first
	cancelled bool
	entered   int64 // when the request came
	began     int64 // when somebody began with it

	piece, off int // the next chunk
	flying     int // chunks
}

func (o *operation) begin(r *Request, path Path, entered int64) {
	*o = operation{request: r, entered: entered, times: Times{Path: path}}
}

// chunk is a part of a piece that is moved at once.
type chunk struct {
	op     *operation
	piece  int
	off, n int   // of the piece
	done   int   // of n
	tries  int   // in vain since it last went on
	began  int64 // when it was handed over
}

func (c *chunk) in() *Piece { return &c.op.request.Pieces[c.piece] }

// next cuts off the next chunk. ok is false after the last, when the operation has failed, and while enough are in flight.
func (o *operation) next(e *Engine) (c chunk, ok bool) {
	if !o.more() || o.request.Flying > 0 && o.flying >= o.request.Flying {
		return c, false
	}
	p := &o.request.Pieces[o.piece]
	n := min(e.options.ChunkBytes, p.Len-o.off)
	if g, _ := p.Buffer.(*Region); g != nil {
		at := p.Addr + uintptr(o.off) - g.as
		n = int(min(uintptr(n), e.table.part-at%e.table.part)) // each part is a buffer of its own
	}
	c = chunk{op: o, piece: o.piece, off: o.off, n: n}
	if o.off += n; o.off == p.Len {
		o.piece, o.off = o.piece+1, 0
	}
	return c, true
}

func (o *operation) more() bool { return o.err == nil && o.piece < len(o.request.Pieces) }

func (o *operation) fail(err error) {
	if o.err == nil {
		o.err = fail(o.request.verb(), err)
	}
}

const maxTries = 1000

// moved takes in what one try has done to a chunk. again: there is something left to do.
func (c *chunk) moved(e *Engine, n int, err error) (again bool, failed error) {
	p := c.in()
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		e.count.retried.Add(1)
		c.done += c.whole(p, n)
		if c.tries++; c.tries < maxTries {
			return true, nil
		}
	case err == nil && n < c.n-c.done:
		e.count.short.Add(1)
		if n = c.whole(p, n); n > 0 {
			c.done += n
			c.tries = 0
			return true, nil
		}
		err = ErrShort
	case err == nil:
		c.done = c.n
		return false, nil
	}
	return false, fmt.Errorf("%d bytes at %d of the file: %w", c.n-c.done, p.Off+int64(c.off+c.done), err)
}

// whole is how much of n bytes a try got: direct I/O can only go on at a block.
func (c *chunk) whole(p *Piece, n int) int {
	if p.File.direct {
		n &^= p.File.engine.options.Align - 1
	}
	return max(n, 0)
}

// landed counts a chunk that is over, at the time given.
func (o *operation) landed(c *chunk, at int64) {
	t := &o.times
	t.Last = max(t.Last, at)
	t.Bytes += int64(c.done)
	if c.done < c.n {
		return
	}
	took := at - c.began
	if t.Chunks == 0 {
		t.ChunkMin = took
	}
	t.Chunks++
	t.ChunkMin, t.ChunkMax = min(t.ChunkMin, took), max(t.ChunkMax, took)
	t.ChunkSum += took
}

// end is the result, counted. An operation without pieces was in no device.
func (o *operation) end(e *Engine) (Times, error) {
	t := &o.times
	at := now()
	if t.First == 0 && o.err == nil {
		t.First, t.Last = at, at
	}
	if t.First != 0 {
		t.Wait, t.Submit, t.Reap = o.began-o.entered, t.First-o.began, at-t.Last
	}
	e.count.operation(t, o.err, o.cancelled)
	return *t, o.err
}
