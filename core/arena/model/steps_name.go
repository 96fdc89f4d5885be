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
