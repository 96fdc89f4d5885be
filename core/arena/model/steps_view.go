package model

// get: the shard's read lock is held from getLock to getUnlock.
func (p *step) get(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case getLock:
		if s.writer[0] != 0 && !m.getNoLock {
			return
		}
		if s.name[0] == 0 {
			if k.ReplaceOnly {
				k.fail("I7", "get missed a key that was only ever replaced")
			}
			p.ends("get: missing")
			return
		}
		if !m.getNoLock {
			p.n.readers[0] |= 1 << p.id
		}
		t.r = s.ref(int(s.name[0]-1), viewer)
		if s.unmaps > 0 {
			k.fail("I5", "index read after unmap")
		}
		switch {
		case m.epochAfterCount:
			p.goes(getCount, "get: read lock, found")
		case m.scanBeforeCount:
			p.goes(getScan, "get: read lock, found")
		default:
			p.goes(getEpoch, "get: read lock, found")
		}
	case getEpoch:
		t.epoch = s.epoch
		if m.epochAfterCount {
			p.goes(getPair, k.text("get: loads E=%d", s.epoch))
		} else {
			p.goes(getCount, k.text("get: loads E=%d", s.epoch))
		}
	case getCount:
		c := k.touch(&p.n, t.r)
		c.count++
		label := k.text("get: count of cell %d -> %d", t.r.cell-1, c.count)
		switch {
		case m.noFirst || c.count != 2 && !m.firstAlways:
			p.viewed(label)
		case m.epochAfterCount:
			p.goes(getEpoch, label)
		default:
			p.goes(getPair, label)
		}
	case getPair:
		c := k.touch(&p.n, t.r)
		if m.scanBeforeCount {
			p.pairAfterScan(c)
			return
		}
		label := k.text("get: loads {%d,%d}", c.first, c.last)
		if c.first == t.epoch && !m.noSkip {
			p.viewed(label + ": first is E already")
			return
		}
		t.first, t.last, t.i, t.flag = c.first, c.last, 0, 0
		switch {
		case m.firstAlways:
			p.goes(getSwap, label)
		case m.noKids:
			p.goes(getScan, label)
		default:
			p.goes(getKids, label)
		}
	case getKids:
		if s.kids == 0 {
			p.goes(getSwap, "get: no children")
		} else {
			p.goes(getScan, "get: there are children")
		}
	case getScan:
		p.getScan()
	case getSwap:
		c := k.touch(&p.n, t.r)
		if c.first == t.first && c.last == t.last {
			c.first = t.epoch
			p.viewed(k.text("get: CAS first=%d", t.epoch))
			return
		}
		if m.epochAgain {
			t.epoch = s.epoch
		}
		p.goes(getPair, "get: CAS failed")
	case getUnlock:
		p.n.readers[0] &^= 1 << p.id
		if t.half == 0 {
			p.view(t.r)
			p.ends("get: unlock, view returned")
			return
		}
		p.snapshotDone()
	}
}

func (p *step) getScan() {
	k, s, t := p.k, p.old, p.t
	slot := s.children[t.i].slot
	if k.faults.scanBeforeCount {
		if t.i == 0 {
			t.i, t.first = 1, slot
			p.goes(getScan, "get: scans")
		} else {
			t.last = slot
			p.goes(getEpoch, "get: scans")
		}
		return
	}
	if k.holds(t.first, t.last, slot) {
		t.flag = 1
	}
	label := k.text("get: child slot %d is %d", t.i, slot)
	t.i++
	switch {
	case t.i < nChild:
		p.goes(getScan, label)
	case t.flag == 1:
		p.viewed(label + ": first stays")
	default:
		p.goes(getSwap, label)
	}
}

// pairAfterScan belongs to the fault scanBeforeCount: first and last hold what the slots were.
func (p *step) pairAfterScan(c *cell) {
	t := p.t
	stays := p.k.holds(c.first, c.last, t.first) || p.k.holds(c.first, c.last, t.last)
	t.first, t.last = c.first, c.last
	if stays {
		p.viewed("get: loads the pair: first stays")
	} else {
		p.goes(getSwap, "get: loads the pair")
	}
}

// viewed: the cell at work is counted and its pair is right. A snapshot turns to its other cell.
func (p *step) viewed(label string) {
	t := p.t
	t.first, t.last, t.i, t.flag = 0, 0, 0, 0
	if t.half == 1 {
		t.half, t.epoch = 2, 0
		t.r, t.r2 = none, t.r
		p.n.readers[0] &^= 1 << p.id
		if p.k.faults.snapLetGo {
			p.n.setsReaders &^= 1 << p.id
		}
		p.goes(snapLockTwo, label+", unlock")
		return
	}
	p.goes(getUnlock, label)
}

// startRelease gives up view i of owner. Releases are free of budget. A snapshot gives all its cells
// up at once.
func (k *explorer) startRelease(s *state, id, owner, i int) {
	p := k.begin(s, id)
	from := &p.n.threads[owner].views
	p.t.r = from[i]
	if from[i].kind == snapshot && i != 0 {
		return
	}
	switch {
	case k.faults.givenUpLate:
		p.t.i = uint8(i)
		p.goes(relEpoch, "release starts (still readable)")
		return
	case k.faults.epochBeforeGivenUp:
		p.t.epoch, p.t.flag, p.t.i = s.epoch, 2, uint8(i)
		p.goes(relLate, "release: E loaded early")
		return
	}
	if from[i].kind == snapshot {
		p.t.r2, p.t.to = from[1], relEpoch
		from[1] = none
	}
	from[i] = none
	p.goes(relEpoch, k.text("release of cell %d: caller gives the view up", p.t.r.cell-1))
}

func (p *step) release(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case relEpoch:
		t.epoch = s.epoch
		label := k.text("release: loads E=%d", s.epoch)
		if m.lastAfterCount {
			p.goes(relCount, label)
		} else {
			p.goes(relLast, label)
		}
	case relLast:
		c := k.touch(&p.n, t.r)
		if t.epoch > c.last && !m.noLast {
			c.last = t.epoch
		}
		label := k.text("release: pair {%d,%d}", c.first, c.last)
		switch {
		case !m.lastAfterCount:
			p.goes(relCount, label)
		case t.flag == 1:
			p.goes(pushLoad, label)
		default:
			p.ends(label)
		}
	case relCount:
		c := k.touch(&p.n, t.r)
		c.count--
		label := k.text("release: count -> {dead %d, open %d, %d}", c.dead, c.open, c.count)
		mine := c.count == 0 && c.dead == 1
		if mine && (m.lastAfterCount || m.givenUpLate) {
			t.flag = 1
		}
		switch {
		case m.lastAfterCount:
			p.goes(relLast, label)
		case m.givenUpLate && t.r.kind != 0:
			p.goes(relLate, label)
		case mine:
			p.goes(pushLoad, label)
		default:
			p.ends(label)
		}
	case relLate: // faults: the view is given up somewhere inside its release
		t.views[t.i] = none
		switch t.flag {
		case 2:
			t.flag, t.i = 0, 0
			p.goes(relLast, "release: caller gives the view up")
		case 1:
			t.flag, t.i = 0, 0
			p.goes(pushLoad, "release: caller gives the view up")
		default:
			p.ends("release: caller gives the view up")
		}
	}
}

// push puts a cell on the list. CLOSED lies in the list's head: the CAS that pushes also learns it.
func (p *step) push(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case pushLoad:
		c := k.touch(&p.n, t.r)
		if m.closedBeforePush && t.first != 99 {
			t.first, t.headClosed = 99, s.closed
			p.goes(pushLoad, k.text("push: loads closed=%d", s.closed))
			return
		}
		t.head = s.head
		if !m.closedBeforePush {
			t.headClosed = s.headClosed
		}
		c.next = s.head
		p.goes(pushSwap, "push: loads head, writes next")
	case pushSwap:
		c := k.touch(&p.n, t.r)
		if s.head != t.head || (!m.closedBeforePush && s.headClosed != t.headClosed) {
			p.goes(pushLoad, "push: CAS failed")
			return
		}
		if c.count != 0 || c.dead == 0 {
			k.fail("I2", "pushed while alive or counted")
		}
		p.n.head = t.r.cell
		c.where = pushed
		if t.headClosed == 1 || m.touchAfterPush {
			t.r.kind = 0
			p.goes(pushWake, "push: CAS")
		} else {
			p.ends("push: CAS")
		}
	case pushWake:
		if m.touchAfterPush {
			if s.unmaps > 0 {
				k.fail("I5", "store memory touched after unmap")
			}
			if s.closed == 0 {
				p.ends("push: reads closed in the store")
				return
			}
		}
		p.n.wake = 1
		p.ends("push: writes wake")
	}
}
