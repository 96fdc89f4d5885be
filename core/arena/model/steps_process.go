package model

func (k *explorer) startClose(s *state, id int) {
	if k.Menu[id]&opClose == 0 || s.closed == 1 {
		return
	}
	p := k.begin(s, id)
	p.t.budget--
	if !k.faults.stripesFirst {
		p.n.closed = 1
	}
	if k.faults.noWait {
		p.t.after = leaveClose
		p.goes(closeUnlink, "close: closed = 1")
		return
	}
	p.goes(closeWait, "close: closed = 1")
}

// close waits for each stripe of the gate in turn. A call that counts itself later sees closed.
func (p *step) close(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	switch pc {
	case closeWait:
		if s.inflight[0] != 0 {
			return
		}
		if m.oneStripe {
			t.after = leaveClose
			p.goes(closeUnlink, "close: stripe 0 is 0")
			return
		}
		p.goes(closeWaitTwo, "close: stripe 0 is 0")
	case closeWaitTwo:
		if s.inflight[1] != 0 {
			return
		}
		if m.stripesFirst {
			p.goes(closeSet, "close: stripe 1 is 0")
			return
		}
		t.after = leaveClose
		p.goes(closeUnlink, "close: stripe 1 is 0")
	case closeSet: // fault
		p.n.closed = 1
		t.after = leaveClose
		p.goes(closeUnlink, "close: closed = 1")
	case closeUnlink:
		for key := range s.name {
			if s.name[key] == 0 {
				continue
			}
			if !s.free(key) {
				return
			}
			t.r = s.ref(int(s.name[key]-1), 0)
			p.n.unlink(key)
			p.goes(remCount, "close: unlinks an object")
			return
		}
		t.after = leaveIdle
		p.goes(closeMark, "close: index is empty")
	case closeMark:
		p.n.headClosed = 1
		if m.noWake {
			p.ends("close: CLOSED set in head")
		} else {
			p.goes(closeWake, "close: CLOSED set in head")
		}
	case closeWake:
		p.n.wake = 1
		p.ends("close: writes wake")
	}
}

// startFork takes the fork mutex for prepare.
func (k *explorer) startFork(s *state, id int) {
	if k.Menu[id]&opFork == 0 || s.forkMu != 0 {
		return
	}
	for i := range s.children {
		if s.children[i].phase != 0 {
			continue
		}
		p := k.begin(s, id)
		p.t.budget--
		p.t.i = uint8(i)
		p.n.forkMu, p.n.window = 1, uint8(i+1)
		p.n.children[i].phase = 1
		p.goes(k.forkNext(idle), "fork: prepare begins")
		return
	}
}

// forkNext is the order of the steps of a fork; idle stands for its beginning.
func (k *explorer) forkNext(pc uint8) uint8 {
	m := &k.faults
	order := [...]uint8{forkKids, forkSlot, forkRaise, forkCall, forkRaiseAgain, forkDone}
	switch {
	case m.slotBeforeKids:
		order = [...]uint8{forkSlot, forkKids, forkRaise, forkCall, forkRaiseAgain, forkDone}
	case m.publishAfterRaise:
		order = [...]uint8{forkRaise, forkSlot, forkKids, forkCall, forkRaiseAgain, forkDone}
	case m.kidsAfterFork:
		order = [...]uint8{forkSlot, forkRaise, forkCall, forkKids, forkRaiseAgain, forkDone}
	case m.slotAfterFork:
		order = [...]uint8{forkKids, forkRaise, forkCall, forkRaiseAgain, forkSlot, forkDone}
	}
	if pc == idle {
		return order[0]
	}
	for i := range order[:len(order)-1] {
		if order[i] == pc {
			return order[i+1]
		}
	}
	return forkDone
}

func (p *step) fork(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
	c := &p.n.children[t.i]
	next := k.forkNext(pc)
	switch pc {
	case forkKids:
		c.counts = 1
		p.n.kids++
		if m.kidsFlag {
			p.n.kids = 1
		}
		p.goes(next, k.text("fork: kids=%d", p.n.kids))
	case forkSlot:
		switch {
		case m.publishAfterRaise:
			c.slot = s.epoch
		case m.slotAfterFork:
			c.slot = s.epoch - 1
		default:
			c.slot = s.epoch + 1
		}
		if m.childIsParent {
			c.slot++
		}
		p.goes(next, k.text("fork: child slot %d = %d", t.i, c.slot))
	case forkRaise:
		if !m.noFirstRaise {
			p.n.epoch++
		}
		p.goes(next, k.text("fork: prepare, E=%d", p.n.epoch))
	case forkCall:
		c.phase, c.procs = 2, 1
		for u := range s.threads {
			for _, v := range s.threads[u].views {
				if v != none {
					c.views[v.extent] = v.extentGen + 1
				}
			}
			pc, r := s.threads[u].pc, s.threads[u].r
			if m.strict && r.kind != 0 && pc >= relEpoch && pc <= relCount {
				c.views[r.extent] = r.extentGen + 1
			}
		}
		p.goes(next, "FORK: the child has the parent's views")
	case forkRaiseAgain:
		if !m.noSecondRaise {
			p.n.epoch++
		}
		p.goes(next, k.text("fork: parent, E=%d", p.n.epoch))
	case forkDone:
		p.n.forkMu, p.n.window = 0, 0
		p.ends("fork: parent unlocks")
	}
}

// childSteps: processes end, and the watcher learns it: slot, then kids, then a look at what is held.
func (k *explorer) childSteps(s *state) {
	for i := range s.children {
		c := &s.children[i]
		if c.phase != 2 {
			continue
		}
		n := *s
		d := &n.children[i]
		switch {
		case c.procs > 0:
			if d.procs--; d.procs == 0 {
				d.views = [nExtent]uint8{}
			}
			k.emit(&n, k.text("child %d: a process ends", i))
			if k.Grandchild && c.grand == 0 {
				n := *s
				n.children[i].procs++
				n.children[i].grand = 1
				k.emit(&n, k.text("child %d forks a grandchild", i))
			}
		case (k.faults.slotAfterFork || k.faults.kidsAfterFork) && s.window == uint8(i+1):
		case c.slot != 0 && !(k.faults.kidsDownFirst && c.counts == 1):
			d.slot = 0
			if c.counts == 0 {
				n.ended = 1
			}
			k.emit(&n, k.text("child %d: its end is noticed, slot cleared", i))
		case c.counts == 1:
			d.counts = 0
			n.kids--
			if k.faults.kidsFlag {
				n.kids = 0
			}
			if c.slot == 0 {
				n.ended = 1
			}
			k.emit(&n, k.text("child %d: kids=%d", i, n.kids))
		}
	}
}
