package model

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
