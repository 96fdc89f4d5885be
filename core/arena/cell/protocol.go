package cell

// Begin makes c the cell of a new object that only its name will hold: alive, counted once, viewed by nobody yet.
func (c *Cell) Begin(p *Process) {
	c.pair.Store(pack(p.Epoch.Load(), 0))
	c.word.Store(1)
}

// BeginOpen makes c the cell of a reservation: its producer holds the only count. The epoch is loaded before the
// memory is handed out, so that a child forked from here on counts as holding it.
func (c *Cell) BeginOpen(p *Process) {
	c.pair.Store(pack(p.Epoch.Load(), 0))
	c.word.Store(Dead | Open | 1)
}

// Acquire counts one view of a cell that was found under its shard's lock, which is still held.
func (c *Cell) Acquire(p *Process) {
	e := p.Epoch.Load() // before the increment: an older epoch only holds more
	if c.word.Add(1) == 2 {
		c.raiseFirst(p, e)
	}
}

// raiseFirst notes that views begin anew at epoch e, unless a child that lives still holds the views before.
func (c *Cell) raiseFirst(p *Process, e uint32) {
	for {
		pair := c.pair.Load()
		if first(pair) == e || p.Holds(pair) || c.pair.CompareAndSwap(pair, pack(e, last(pair))) {
			return
		}
	}
}

// Retain counts one more view unless nobody counts any more. The caller knows by a lock that the cell is not home.
func (c *Cell) Retain() bool {
	for {
		w := c.word.Load()
		if w&Count == 0 {
			return false
		}
		if c.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// Release ends one view. It reports whether the cell died with it: then the caller pushes it.
func (c *Cell) Release(p *Process) bool {
	e := p.Epoch.Load() // never earlier than the caller gave the view up
	for {
		pair := c.pair.Load()
		if last(pair) >= e || c.pair.CompareAndSwap(pair, pack(first(pair), e)) {
			break
		}
	}
	return gone(c.word.Add(^uint64(0)))
}

// Kill takes the name's count from a cell that was just unlinked and marks it dead in the same step. It reports
// whether nobody views it: then the caller pushes it.
func (c *Cell) Kill() bool { return gone(c.word.Add(Dead - 1)) }

// Evict kills the cell if nobody views it. The caller holds the shard's lock for writing, has seen that the name still
// leads here, unlinks it under the same lock when the answer is true, and pushes the cell.
func (c *Cell) Evict() bool { return c.word.CompareAndSwap(1, Dead) }

// Idle reports whether only the name holds the cell.
func (c *Cell) Idle() bool { return c.word.Load() == 1 }

// HeldByChild reports whether a forked child that lives may read the bytes. Take asks it after Idle, never before:
// a view that ends in between has noted its last epoch by then.
func (c *Cell) HeldByChild(p *Process) bool { return p.Holds(c.pair.Load()) }

// Take turns the name's count into the taker's view. The caller holds the shard's lock for writing, has seen Idle and then not
// HeldByChild, and unlinks the name when the answer is true.
func (c *Cell) Take(p *Process) bool {
	e := p.Epoch.Load()
	if !c.word.CompareAndSwap(1, Dead|1) {
		return false
	}
	c.pair.Store(pack(e, last(c.pair.Load())))
	return true
}

// Commit publishes an open cell: it gets the name's count beside those of its producers. The caller holds one of
// these, and the shard's lock for writing. False: the cell was committed before.
func (c *Cell) Commit() bool {
	for {
		w := c.word.Load()
		if w&Open == 0 {
			return false
		}
		if c.word.CompareAndSwap(w, w&Count+1) {
			return true
		}
	}
}

// IsOpen reports whether the cell is a reservation that was not committed.
func (c *Cell) IsOpen() bool { return c.word.Load()&Open != 0 }

// Named reports whether a name leads to the cell.
func (c *Cell) Named() bool { return c.word.Load()&Dead == 0 }

// Views says how many views are held at this moment.
func (c *Cell) Views() uint64 {
	w := c.word.Load()
	n := w & Count
	if w&Dead == 0 && n > 0 {
		n--
	}
	return n
}

// Touch counts an access for the eviction policy, up to 3. Lost updates are accepted: it is a hint.
func (c *Cell) Touch() {
	if f := c.freq.Load(); f < 3 {
		c.freq.Store(f + 1)
	}
}

// Freq is the access counter, 0 to 3.
func (c *Cell) Freq() uint8 { return uint8(c.freq.Load()) }

func gone(word uint64) bool { return word&^Open == Dead }

func pack(first, last uint32) uint64 { return uint64(first)<<32 | uint64(last) }
func first(pair uint64) uint32       { return uint32(pair >> 32) }
func last(pair uint64) uint32        { return uint32(pair) }

// SetFreq lowers the access counter.
func (c *Cell) SetFreq(n uint8) { c.freq.Store(uint32(n)) }
