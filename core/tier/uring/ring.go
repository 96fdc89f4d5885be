package uring

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a ring.
type Options struct {
	Entries     uint32 // of the submission queue; a power of two, or it is rounded up
	Completions uint32 // of the completion queue; 0 means twice Entries
}

// Ring is one io_uring.
type Ring struct {
	fd int

	maps struct{ rings, entries []byte }

	entries      []entry
	sqHead       *atomic.Uint32 // moved by the kernel
	sqTail       *atomic.Uint32
	tail         uint32 // entries that were written; sqTail lags behind until Enter
	mask, cqMask uint32

	cqHead      *atomic.Uint32
	cqTail      *atomic.Uint32 // moved by the kernel
	completions []Completion

	wait waiting // arguments of Enter, here because they must not move
	time timespec
}

// New makes a ring. ErrUnavailable: there can be none in this process.
func New(o Options) (*Ring, error) {
	if o.Entries == 0 || o.Entries > 1<<15 {
		return nil, fail("setup", fmt.Errorf("%w: %d entries", unix.EINVAL, o.Entries))
	}
	r := &Ring{}
	p := params{flags: setupSubmitAll | setupCoopTaskrun, cqEntries: o.Completions}
	if o.Completions > 0 {
		p.flags |= setupCQSize
	}
	p, err := r.setup(o.Entries, p)
	if err != nil {
		return nil, fail("io_uring_setup", err)
	}
	if need := uint32(featSingleMmap | featNoDrop | featExtArg); p.features&need != need {
		_ = unix.Close(r.fd)
		return nil, fail("io_uring_setup", fmt.Errorf("%w: this kernel's lacks features (has %#x, needed are %#x)",
			ErrUnavailable, p.features, need))
	}
	if err := r.mapQueues(p); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// setup asks for what newer kernels can do, and does without it on older ones. It does not ask for a ring of a single thread:
// such a ring cannot change hands, and takes no registration from anybody else.
func (r *Ring) setup(entries uint32, p params) (params, error) {
	for {
		try := p
		fd, err := setup(entries, &try)
		switch {
		case err == nil:
			r.fd = fd
			return try, nil
		case err == unix.EINVAL && p.flags&^setupCQSize != 0:
			p.flags &= setupCQSize
		case err == unix.ENOSYS || err == unix.EPERM:
			return p, fmt.Errorf("%w: %w", ErrUnavailable, err)
		default:
			return p, err
		}
	}
}

// FD is the ring's descriptor.
func (r *Ring) FD() int { return r.fd }

// Room is how many more requests can be written before the next Enter.
func (r *Ring) Room() int { return len(r.entries) - r.Written() }

// Written is how many requests the kernel has not taken yet.
func (r *Ring) Written() int { return int(r.tail - r.sqHead.Load()) }

// Target is the file of a request.
type Target struct {
	FD    int32 // a descriptor, or the number of a registered file
	Fixed bool  // the latter
}

// Read reads n bytes at off to addr. The caller has looked that there is Room, here and below.
func (r *Ring) Read(t Target, addr uintptr, n uint32, off int64, data uint64) {
	r.write(t, entry{opcode: opRead, addr: uint64(addr), n: n, off: uint64(off), data: data})
}

// Write writes the n bytes at addr to off.
func (r *Ring) Write(t Target, addr uintptr, n uint32, off int64, data uint64) {
	r.write(t, entry{opcode: opWrite, addr: uint64(addr), n: n, off: uint64(off), data: data})
}

// ReadFixed reads into a registered buffer. addr is counted from the address the buffer was registered at, where nothing
// need be mapped any more.
func (r *Ring) ReadFixed(t Target, buffer uint16, addr uintptr, n uint32, off int64, data uint64) {
	r.write(t, entry{opcode: opReadFixed, buffer: buffer, addr: uint64(addr), n: n, off: uint64(off), data: data})
}

// WriteFixed writes from a registered buffer; addr as in ReadFixed.
func (r *Ring) WriteFixed(t Target, buffer uint16, addr uintptr, n uint32, off int64, data uint64) {
	r.write(t, entry{opcode: opWriteFixed, buffer: buffer, addr: uint64(addr), n: n, off: uint64(off), data: data})
}

// Nop completes with 0.
func (r *Ring) Nop(data uint64) { r.write(Target{FD: -1}, entry{opcode: opNop, data: data}) }

// PollIn completes when a descriptor can be read.
func (r *Ring) PollIn(fd int, data uint64) {
	r.write(Target{FD: int32(fd)}, entry{opcode: opPollAdd, opFlags: unix.POLLIN, data: data})
}

// Cancel asks for the request with the data of target to be given up. Both complete: this one with 0 when the other was
// found and stopped, -ENOENT or -EALREADY when not.
func (r *Ring) Cancel(target, data uint64) {
	r.write(Target{FD: -1}, entry{opcode: opCancel, addr: target, data: data})
}

func (r *Ring) write(t Target, e entry) {
	e.fd = t.FD
	if t.Fixed {
		e.flags = fixedFile
	}
	r.entries[r.tail&r.mask] = e
	r.tail++
}

// Enter hands to the kernel what was written, and waits until at least wait completions are ready, unless timeout (when
// it is not 0) is over before. It may come back earlier: the caller looks what is Ready. What the kernel did not take, see
// Written, it takes next time.
func (r *Ring) Enter(wait uint32, timeout time.Duration) error {
	return r.enterUntil(wait, timeout, false)
}

// EnterBriefly is Enter for a wait that is short: Go's scheduler is not told that this thread blocks, and does not run another
// goroutine in its place. That saves the processor time that the scheduler takes to watch over it. A signal interrupts the
// wait, so that the collector, which sends one, need not wait for it.
func (r *Ring) EnterBriefly(wait uint32, timeout time.Duration) error {
	return r.enterUntil(wait, timeout, true)
}

func (r *Ring) enterUntil(wait uint32, timeout time.Duration, brief bool) error {
	r.sqTail.Store(r.tail)
	for {
		err := r.enter(wait, timeout, brief)
		switch err {
		case nil, unix.ETIME:
			return nil
		case unix.EINTR:
			if wait == 0 || uint32(r.Ready()) >= wait {
				return nil
			}
		default:
			return fail("io_uring_enter", err)
		}
	}
}

// Withdraw takes back what the kernel has not taken, after an Enter that failed, newest first.
func (r *Ring) Withdraw(each func(data uint64)) {
	for head := r.sqHead.Load(); r.tail != head; {
		r.tail--
		each(r.entries[r.tail&r.mask].data)
	}
	r.sqTail.Store(r.tail)
}

// Ready is how many completions can be taken now.
func (r *Ring) Ready() int { return int(r.cqTail.Load() - r.cqHead.Load()) }

// Next takes the oldest completion. The caller knows that one is Ready.
func (r *Ring) Next() Completion {
	head := r.cqHead.Load()
	c := r.completions[head&r.cqMask]
	r.cqHead.Store(head + 1)
	return c
}

// Close ends the ring. The caller has seen the completion of every request. Files and buffers are let go before it returns,
// also when a forked child still has the descriptor.
func (r *Ring) Close() error {
	var err error
	for _, op := range [...]uintptr{registerDropBuffers, registerDropFiles} {
		if e := r.register(op, nil, 0); e != nil && e != unix.ENXIO {
			err = errors.Join(err, fail("io_uring_register", e))
		}
	}
	return errors.Join(err, r.unmap(), fail("close", unix.Close(r.fd)))
}
