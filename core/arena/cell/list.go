package cell

import "sync/atomic"

// Closed is the bit of a list's head that tells a push that the store was closed.
const Closed uint64 = 1 << 63

// Control is the control page of a store: the return list and what C counts. Private memory outside the Go heap that is
// unmapped when the last cell is home; capi/layout.h declares the same bytes.
type Control struct {
	head         atomic.Uint64 // {Closed, unit of the cell that died last}
	Closing      atomic.Uint32 // 1: long copies into the store stop
	_            uint32
	Windows      atomic.Uint64 // copy-on-write windows mapped now
	WindowCopies atomic.Uint64 // windows that had to be copies
	Views        atomic.Uint64 // tensors and buffers that C handed out and that hold a cell
	CopiedOut    atomic.Uint64 // bytes copied out of the store
	Asked        atomic.Uint64 // gets that only learnt the size, which the caller had no room for
}

// Push puts a dead cell on the list. It is the caller's last access to the cell and to the store's memory, unless the store's calls
// in flight keep that mapped. In a closed store it wakes the drain.
func (l *Control) Push(p *Process, c *Cell, unit uint32) {
	wake := p.Wake.Load()
	for {
		h := l.head.Load()
		c.next.Store(uint32(h))
		if l.head.CompareAndSwap(h, h&Closed|uint64(unit)) {
			if h&Closed != 0 {
				Signal(wake)
			}
			return
		}
	}
}

// TakeAll empties the list and gives the unit of its first cell, 0 for none; Next leads on. One drain at a time.
func (l *Control) TakeAll() uint32 { return uint32(l.head.And(Closed)) }

// Empty reports whether there is nothing to take.
func (l *Control) Empty() bool { return uint32(l.head.Load()) == 0 }

// Close marks the list: from now on a push wakes the drain.
func (l *Control) Close() { l.head.Or(Closed) }

// IsClosed reports whether Close was called.
func (l *Control) IsClosed() bool { return l.head.Load()&Closed != 0 }

// Next is the unit of the cell that was pushed before c, 0 at the end. Only the drain that took the list asks.
func (c *Cell) Next() uint32 { return c.next.Load() }
