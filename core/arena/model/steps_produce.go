package model

func (p *step) reserve(pc uint8) {
	k, s, t := p.k, p.old, p.t
	switch pc {
	case resEpoch:
		t.epoch = s.epoch
		p.goes(resAlloc, k.text("reserve: loads E=%d", s.epoch))
	case resAlloc:
		ok := k.alloc(s, func(n *state, c int) {
			q := k.begin(n, p.id)
			d := &q.n.cells[c]
			d.count, d.open, d.dead, d.first = 1, 1, 1, t.epoch
			q.view(q.n.ref(c, producer))
			q.ends(k.text("reserve: cell %d, extent %d handed to the producer", c, d.extent))
		})
		if !ok {
			p.ends("reserve: no memory")
		}
	}
}

// startCommit commits the reservation r. With [Scenario.Shared] any thread may release the producer's
// view meanwhile, or commit the same reservation.
func (k *explorer) startCommit(s *state, id int, r ref) {
	c := &s.cells[r.cell-1]
	if s.closed == 1 || c.open == 0 && !(k.faults.noOpen && c.dead == 1 && s.threads[id].budget > 0) {
		return
	}
	p := k.begin(s, id)
	p.t.r = r
	p.t.r.kind = 0
	switch {
	case !k.faults.commitNoGate:
		p.enter(comHold, "commit")
	default:
		p.goes(comHold, "commit, not counted as a call")
	}
}

// commit has a count of its own from comHold on; it becomes the index's.
func (p *step) commit(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case comHold:
		p.commitHold()
	case comProtect:
		k.touch(&p.n, t.r)
		p.n.extents[t.r.extent].protected = 1
		if m.publishFirst {
			p.ends("commit: pages protected")
		} else {
			p.goes(comLock, "commit: pages protected")
		}
	case comLock:
		p.commitPublish()
	case comUnlock:
		p.n.writer[0] = 0
		old := t.new
		t.new = 0
		if old != 0 {
			t.r2, t.to = s.ref(int(old-1), 0), remCount
		}
		switch {
		case m.publishFirst:
			p.goes(comProtect, "unlock")
		default:
			t.r = none
			p.ends("unlock")
		}
	case comUndo:
		c := k.touch(&p.n, t.r)
		switch {
		case m.noUndo:
		case m.undoLate:
			c.count--
			if c.count > 0 {
				p.goes(comUndoLate, "commit: own count dropped")
				return
			}
			p.n.extents[t.r.extent].protected = 0
			p.goes(pushLoad, "commit: own count dropped, it was the last; unprotected")
			return
		default:
			p.n.extents[t.r.extent].protected = 0
		}
		c.claimed = 0
		if m.commitNoHold {
			p.ends("commit: refused")
			return
		}
		p.goes(relCount, "commit: refused; unprotected, claim given back")
	case comUndoLate: // fault: unprotects what may be another's by now
		p.n.extents[t.r.extent].protected = 0
		p.ends("commit: unprotected")
	}
}

// commitHold looks the reservation up in the table of open ones. One critical section: the drain takes
// an entry out, under the same lock, before the cell goes home.
func (p *step) commitHold() {
	k, t := p.k, p.t
	m := &k.faults
	c := &p.n.cells[t.r.cell-1]
	gone := c.gen != t.r.cellGen || c.where == home
	switch {
	case m.commitNoHold || m.noOpen:
	case gone || c.open == 0:
		p.ends("commit: no such reservation")
		return
	case c.count == 0 && !m.holdBlind:
		p.ends("commit: the producer gave it up")
		return
	case c.claimed == 1 && !m.noClaim:
		p.ends("commit: another commit is at work")
		return
	default:
		c.claimed = 1
		c.count++
	}
	if m.publishFirst {
		p.goes(comLock, "commit: count + 1")
	} else {
		p.goes(comProtect, "commit: count + 1")
	}
}

func (p *step) commitPublish() {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	if !s.free(0) {
		return
	}
	c := k.touch(&p.n, t.r)
	if k.Keep && s.name[0] != 0 {
		p.goes(comUndo, "commit: the name exists")
		return
	}
	if c.open == 0 && !m.noOpen {
		p.goes(comUndo, "commit: somebody else committed it")
		return
	}
	if c.committed == 1 {
		k.fail("P2", "adopted twice")
	}
	p.n.writer[0] = uint8(p.id + 1)
	c.open, c.dead, c.claimed, c.committed = 0, 0, 0, 1
	if m.commitNoHold || m.noOpen {
		c.count++
	}
	t.new = s.name[0]
	p.link(t.r.cell)
	p.goes(comUnlock, k.text("commit: write lock, {DEAD·OPEN,%d} -> {alive,%d}, linked", c.count, c.count))
}
