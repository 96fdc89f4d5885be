package model

// remove unlinks, then marks the cell dead and drops the index's count in one addition.
func (p *step) remove(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case remLock:
		if !s.free(0) {
			return
		}
		if s.name[0] == 0 {
			p.ends("remove: missing")
			return
		}
		t.r = s.ref(int(s.name[0]-1), 0)
		p.n.unlink(0)
		p.n.writer[0] = uint8(p.id + 1)
		p.goes(remUnlock, "remove: write lock, unlinked")
	case remUnlock:
		p.n.writer[0] = 0
		p.goes(remCount, "unlock")
	case remCount:
		c := k.touch(&p.n, t.r)
		switch {
		case m.countBeforeDead:
			c.count--
			t.flag = 0
			if c.count == 0 {
				t.flag = 1
			}
			p.goes(remSecond, k.text("index's count dropped -> %d", c.count))
		case m.deadThenCount:
			c.dead = 1
			p.goes(remSecond, "DEAD set")
		default:
			c.dead = 1
			c.count--
			p.dropped(c.count == 0, k.text("adds DEAD - 1 -> {DEAD, %d}", c.count))
		}
	case remSecond: // the same in two steps
		c := k.touch(&p.n, t.r)
		if m.countBeforeDead {
			c.dead = 1
			p.dropped(t.flag == 1, k.text("DEAD set, count is %d", c.count))
			return
		}
		c.count--
		p.dropped(c.count == 0, k.text("-> {DEAD, %d}", c.count))
	}
}

func (p *step) dropped(last bool, label string) {
	p.t.flag = 0
	if last {
		p.goes(pushLoad, label)
	} else {
		p.ends(label)
	}
}

// put swaps the name's slot to a new record in one critical section; the pin is copied in it.
func (p *step) put(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case putAlloc:
		ok := k.alloc(s, func(n *state, c int) {
			q := k.begin(n, p.id)
			q.n.cells[c].count = 1
			q.t.new = uint8(c + 1)
			if m.pinCopiedEarly && s.name[0] != 0 {
				q.n.cells[c].pin = s.cells[s.name[0]-1].pin
			}
			q.goes(putLock, k.text("put: cell %d, extent %d", c, q.n.cells[c].extent))
		})
		if !ok {
			p.ends("put: no memory")
		}
	case putLock:
		if !s.free(0) {
			return
		}
		p.n.writer[0] = uint8(p.id + 1)
		t.r = none
		if s.name[0] != 0 {
			t.r = s.ref(int(s.name[0]-1), 0)
			if m.replaceTwice {
				p.n.name[0], p.n.writer[0] = 0, 0
				p.goes(putRelink, "put: write lock, old unlinked, unlock")
				return
			}
		}
		p.link(t.new)
		p.goes(putUnlock, "put: write lock, linked")
	case putRelink:
		if !s.free(0) {
			return
		}
		p.n.name[0] = t.new
		p.goes(remCount, "put: new one linked")
	case putUnlock:
		p.n.writer[0] = 0
		t.new = 0
		if t.r != none {
			p.goes(remCount, "unlock")
		} else {
			p.ends("unlock")
		}
	}
}

// link makes name 0 point to cell c and carries the pin over.
func (p *step) link(c uint8) {
	s, m := p.old, &p.k.faults
	if s.name[0] != 0 && !m.pinLost && !m.pinCopiedEarly {
		p.n.cells[c-1].pin = s.cells[s.name[0]-1].pin
	}
	p.n.name[0] = c
}

// pin and unpin set and clear a flag: doing it twice is doing it once.
func (p *step) pin(pc uint8) {
	s := p.old
	if !s.free(0) {
		return
	}
	if s.name[0] == 0 {
		p.ends("pin: missing")
		return
	}
	c := &p.n.cells[s.name[0]-1]
	switch {
	case pc == pinSet && p.k.faults.pinCounted:
		c.pin++
		p.n.wished = 1
	case pc == pinSet:
		c.pin, p.n.wished = 1, 1
	case p.k.faults.pinCounted:
		c.pin -= min(c.pin, 1)
		p.n.wished = 0
	default:
		c.pin, p.n.wished = 0, 0
	}
	p.ends(p.k.text("pin: flag is %d", c.pin))
}

// startEvict picks a candidate without a lock: a cell and its sequence number.
func (k *explorer) startEvict(s *state, id int) {
	if k.Menu[id]&opEvict == 0 || s.name[0] == 0 || s.unmaps > 0 {
		return
	}
	if k.faults.pinBeforeLock && s.cells[s.name[0]-1].pin != 0 {
		return
	}
	p := k.begin(s, id)
	p.t.budget--
	p.t.r = s.ref(int(s.name[0]-1), 0)
	pc := uint8(evictLock)
	if k.faults.evictNoLock {
		pc = evictEarly
	}
	if k.faults.evictNoGate {
		p.goes(pc, "evict picks a candidate")
		return
	}
	p.enter(pc, "evict picks a candidate")
}

func (p *step) evict(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	if s.unmaps > 0 {
		k.fail("I5", "evict works in an unmapped store")
	}
	c := &p.n.cells[t.r.cell-1]
	switch pc {
	case evictEarly: // fault
		if c.gen == t.r.cellGen && c.where == out && c.dead == 0 && c.count == 1 {
			c.dead, c.count = 1, 0
			p.goes(evictLock, "evict: CAS {alive,1} -> {DEAD,0} without the lock")
		} else {
			p.ends("evict: refused")
		}
	case evictLock:
		if !s.free(0) {
			return
		}
		if m.evictNoLock {
			if s.name[0] == t.r.cell {
				p.n.unlink(0)
			}
			p.goes(pushLoad, "evict: unlinked")
			return
		}
		if !m.evictNoCheck && (s.name[0] != t.r.cell || c.gen != t.r.cellGen) {
			p.ends("evict: stale candidate")
			return
		}
		if !m.pinBeforeLock && c.pin != 0 {
			p.ends("evict: pinned")
			return
		}
		p.n.writer[0] = uint8(p.id + 1)
		p.goes(evictSwap, "evict: write lock")
	case evictSwap:
		if m.evictNoCheck && c.gen != t.r.cellGen && c.where == out {
			k.fail("I3", "evict acts on a cell that was reused for another object")
		}
		if c.dead != 0 || c.count != 1 || c.where != out {
			p.n.writer[0] = 0
			p.ends("evict: refused, viewed")
			return
		}
		k.touch(&p.n, t.r)
		if s.wished == 1 {
			k.fail("I8", "a pinned name is evicted")
		}
		c.dead, c.count = 1, 0
		p.n.unlink(0)
		p.goes(evictUnlock, "evict: CAS {alive,1} -> {DEAD,0}, unlinked")
	case evictUnlock:
		p.n.writer[0] = 0
		p.goes(pushLoad, "unlock")
	}
}

// take ignores the pin: it is the owner's word.
func (p *step) take(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case takeLock:
		if !s.free(0) {
			return
		}
		if s.name[0] == 0 {
			p.ends("take: missing")
			return
		}
		p.n.writer[0] = uint8(p.id + 1)
		t.r = s.ref(int(s.name[0]-1), taker)
		if m.takeScanFirst {
			p.goes(takeEpoch, "take: write lock")
		} else {
			p.goes(takeCount, "take: write lock")
		}
	case takeCount:
		c := k.touch(&p.n, t.r)
		switch {
		case c.count != 1 && !m.takeNoCount:
			p.n.writer[0] = 0
			p.ends("take: refused, viewed")
		case m.takeNoScan:
			p.goes(takeSwap, "take: word is {alive,1}")
		default:
			p.goes(takeEpoch, "take: word is {alive,1}")
		}
	case takeEpoch:
		t.epoch = s.epoch
		p.goes(takePair, k.text("take: loads E=%d", s.epoch))
	case takePair:
		c := k.touch(&p.n, t.r)
		t.first, t.last, t.i, t.flag = c.first, c.last, 0, 0
		if m.noKids {
			p.goes(takeScan, k.text("take: loads {%d,%d}", c.first, c.last))
		} else {
			p.goes(takeKids, k.text("take: loads {%d,%d}", c.first, c.last))
		}
	case takeKids:
		if s.kids == 0 {
			p.goes(takeSwap, "take: no children")
		} else {
			p.goes(takeScan, "take: there are children")
		}
	case takeScan:
		if k.holds(t.first, t.last, s.children[t.i].slot) {
			t.flag = 1
		}
		t.i++
		switch {
		case t.i < nChild:
			p.goes(takeScan, "take: scans")
		case t.flag == 1:
			p.n.writer[0] = 0
			p.ends("take: refused, held by a child")
		default:
			p.goes(takeSwap, "take: no child holds it")
		}
	case takeSwap:
		p.takeSwap()
	case takeUnlock:
		p.n.writer[0] = 0
		p.ends("unlock")
	}
}

func (p *step) takeSwap() {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	c := k.touch(&p.n, t.r)
	if !m.takeNoCount && (c.count != 1 || c.dead == 1) {
		p.n.writer[0] = 0
		p.ends("take: refused, viewed")
		return
	}
	c.dead = 1
	if !m.takeNoScan && !m.takeScanFirst {
		c.first = t.epoch
	}
	p.n.unlink(0)
	p.n.extents[c.extent].protected = 0
	for i := range s.children {
		if s.children[i].procs > 0 && s.children[i].views[c.extent] != 0 {
			k.fail("I4", "take granted while a child reads the bytes")
		}
	}
	p.view(t.r)
	p.goes(takeUnlock, "take: CAS {alive,1} -> {DEAD,1}, unlinked, granted")
}

// multi publishes both keys at one moment: all write locks, in shard order, then all swaps.
func (p *step) multi(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	one, two := 0, 1
	if m.multiReverse {
		one, two = 1, 0
	}
	switch pc {
	case multiAlloc:
		ok := false
		k.alloc(s, func(n *state, a int) {
			k.alloc(n, func(n *state, b int) {
				ok = true
				q := k.begin(n, p.id)
				q.n.batches++
				q.n.cells[a].count, q.n.cells[b].count = 1, 1
				q.n.cells[a].batch, q.n.cells[b].batch = q.n.batches, q.n.batches
				q.t.new, q.t.new2 = uint8(a+1), uint8(b+1)
				q.goes(multiLock, k.text("multi-put: cells %d and %d", a, b))
			})
		})
		if !ok {
			p.ends("multi-put: no memory")
		}
	case multiLock:
		if !s.free(one) {
			return
		}
		p.n.writer[one] = uint8(p.id + 1)
		if m.multiApart {
			p.swap()
			p.n.writer[one] = 0
			p.goes(multiGap, "multi-put: shard 0 swapped, unlock")
			return
		}
		p.goes(multiLockTwo, k.text("multi-put: write lock of shard %d", one))
	case multiLockTwo:
		if !s.free(two) {
			return
		}
		p.n.writer[two] = uint8(p.id + 1)
		p.swap()
		p.swapTwo()
		p.goes(multiUnlock, k.text("multi-put: write lock of shard %d, both swapped", two))
	case multiGap: // fault: shard 1 in a critical section of its own
		if !s.free(1) {
			return
		}
		p.swapTwo()
		p.goes(multiUnlock, "multi-put: shard 1 swapped")
	case multiUnlock:
		p.n.writer[0], p.n.writer[1] = 0, 0
		t.new, t.new2 = 0, 0
		t.to = remCount
		if t.r == none {
			t.r, t.r2 = t.r2, none
		}
		if t.r == none {
			p.ends("unlock")
		} else {
			p.goes(remCount, "unlock")
		}
	}
}

func (p *step) swap() {
	if old := p.old.name[0]; old != 0 {
		p.t.r = p.old.ref(int(old-1), 0)
	}
	p.link(p.t.new)
}

func (p *step) swapTwo() {
	if old := p.old.name[1]; old != 0 {
		p.t.r2 = p.old.ref(int(old-1), 0)
	}
	p.n.name[1] = p.t.new2
}
