package model

const (
	drainIdle = iota
	drainLock
	drainSwap
	drainTake
	drainKids
	drainScan
	drainDecide
	drainUnprotect
	drainFree
	drainNext
	drainWalk
	drainDone
)

// The two that drain.
const (
	watcher = iota
	allocation
)

var drainName = [2]string{"watcher", "allocation"}

// drain takes back what was pushed. The watcher runs when a closed store's cell was pushed or a child
// ended, and looks at the held cells too. An allocation, in an open store only and inside its call,
// runs when it found the store full: in the model, whenever something was pushed.
func (k *explorer) drain(s *state, who int) {
	if s.drains[who].pc == drainIdle {
		k.drainStart(s, who)
		return
	}
	m := &k.faults
	n := *s
	d := &n.drains[who]
	goes := func(pc uint8, label string) {
		d.pc = pc
		k.emit(&n, k.text("%s's drain %s", drainName[who], label))
	}
	if d.pc != drainLock && s.unmaps > 0 {
		k.fail("I5", "drain works in an unmapped store")
	}
	switch d.pc {
	case drainLock:
		if !m.noDrainMutex {
			if s.drainMu != 0 {
				if m.watcherGivesUp && who == watcher {
					*d = drainRun{}
					goes(drainIdle, "finds the mutex taken and leaves")
				}
				return
			}
			n.drainMu = uint8(who + 1)
		}
		goes(drainSwap, "locks")
	case drainSwap:
		if s.unmaps > 0 {
			k.fail("I5", "drain works in an unmapped store")
		}
		d.cell, n.head = s.head, 0
		if d.cell == 0 {
			goes(drainNext, "finds an empty list")
		} else {
			goes(drainTake, "takes the whole list")
		}
	case drainTake:
		c := &n.cells[d.cell-1]
		if c.where != pushed {
			k.fail("I2", "taken back although not pushed, or twice")
		}
		c.where = back
		d.next, c.next = c.next, 0
		d.look(c, m)
		goes(d.pc, k.text("takes cell %d back {%d,%d}", d.cell-1, c.first, c.last))
	case drainKids:
		if s.kids == 0 {
			goes(drainDecide, "sees no children")
		} else {
			goes(drainScan, "sees children")
		}
	case drainScan:
		if k.holds(d.first, d.last, s.children[d.i].slot) {
			d.hold = 1
		}
		if d.i++; d.i < nChild {
			goes(drainScan, "scans a child slot")
		} else {
			goes(drainDecide, "scans a child slot")
		}
	case drainDecide:
		k.drainDecide(s, &n, d, goes)
	case drainUnprotect:
		n.extents[s.cells[d.cell-1].extent].protected = 0
		goes(drainFree, "unprotects")
	case drainFree:
		c := &n.cells[d.cell-1]
		n.extents[c.extent].used = 0
		*c = cell{gen: c.gen}
		goes(drainNext, "frees extent and cell")
	case drainNext:
		k.drainNext(s, &n, d, who, goes)
	case drainWalk:
		for d.walk < nCell && s.cells[d.walk].where != held {
			d.walk++
		}
		if d.walk == nCell {
			goes(drainDone, "has seen all held cells")
			return
		}
		d.walk++
		d.cell = d.walk
		c := &n.cells[d.cell-1]
		d.look(c, m)
		goes(d.pc, k.text("looks at held cell %d {%d,%d}", d.cell-1, c.first, c.last))
	case drainDone:
		k.drainDone(s, &n, who)
	}
}

// look loads the pair of c.
func (d *drainRun) look(c *cell, m *Faults) {
	d.first, d.last, d.i, d.hold = c.first, c.last, 0, 0
	d.pc = drainKids
	if m.noKids {
		d.pc = drainScan
	}
}

func (k *explorer) drainStart(s *state, who int) {
	switch {
	case who == allocation && (s.head == 0 || s.closed == 1):
		return
	case who == watcher && (s.unmaps > 0 || (s.wake == 0 || s.closed == 0) && s.ended == 0):
		return
	}
	n := *s
	n.drains[who].pc = drainLock
	if who == allocation {
		if k.Gate && !k.faults.drainNoGate {
			n.inflight[0]++
		}
		k.emit(&n, "allocation finds the store full")
		return
	}
	if !k.faults.wakeReadLate {
		n.wake = 0
	}
	n.ended = 0
	k.emit(&n, "watcher wakes, reads wake")
}

// drainDecide holds the extent for a child or gives it back; held cells are on a list that belongs to
// whoever has the drain's mutex.
func (k *explorer) drainDecide(s, n *state, d *drainRun, goes func(uint8, string)) {
	c := &n.cells[d.cell-1]
	hold := d.hold == 1
	d.first, d.last, d.i, d.hold = 0, 0, 0, 0
	if hold && !k.faults.drainNoScan {
		if c.where != held && s.drains[watcher].walk > 0 {
			k.fail("I2", "the held list changes under the one who walks it")
		}
		c.where = held
		if c.seen == 0 && k.Precise {
			k.fail("I6", "held for a child that cannot have seen a view")
		}
		goes(drainNext, "holds the extent for a child")
		return
	}
	if d.walk > 0 && c.where != held {
		k.fail("I2", "a held cell is taken back twice")
	}
	c.where = back
	x := &n.extents[c.extent]
	switch {
	case x.protected == 1 && k.faults.freeFirst:
		x.used = 0
		goes(drainUnprotect, "frees the extent before unprotecting it")
	case x.protected == 1:
		goes(drainUnprotect, "finds it reusable")
	default:
		goes(drainFree, "finds it reusable")
	}
}

func (k *explorer) drainNext(s, n *state, d *drainRun, who int, goes func(uint8, string)) {
	d.cell, d.next = s.drains[who].next, 0
	switch {
	case d.cell != 0:
		goes(drainTake, "goes on")
	case who == watcher && !k.faults.noWalk:
		goes(drainWalk, "walks the held cells")
	default:
		goes(drainDone, "has seen all")
	}
}

// drainDone unmaps a closed store when every cell is home. Held ones count as home: the children have
// mappings of their own.
func (k *explorer) drainDone(s, n *state, who int) {
	all := true
	for i := range s.cells {
		all = all && (s.cells[i].where == home || s.cells[i].where == held)
	}
	label := "unlocks"
	if s.headClosed == 1 && (all || k.faults.unmapEarly) {
		n.unmaps++
		label = "unmaps the closed store, unlocks"
	}
	n.drainMu = 0
	if k.faults.wakeReadLate && who == watcher {
		n.wake = 0
	}
	n.drains[who] = drainRun{}
	if who == allocation && k.Gate && !k.faults.drainNoGate {
		n.inflight[0]--
	}
	k.emit(n, k.text("%s's drain %s", drainName[who], label))
}
