package model

// judge is called for every new state. It also keeps the ghost seen: a fork window with a view in it.
func (k *explorer) judge(s *state) {
	var takers, views [nExtent]int
	for t := range s.threads {
		th := &s.threads[t]
		for _, v := range th.views {
			if v == none {
				continue
			}
			views[v.extent]++
			if v.kind == taker {
				takers[v.extent]++
			}
			k.judgeView(s, v)
		}
		if s.window == 0 {
			continue
		}
		for _, v := range [...]ref{th.r, th.r2, th.views[0], th.views[1]} {
			if v.kind != 0 && s.cells[v.cell-1].gen == v.cellGen {
				s.cells[v.cell-1].seen |= 1 << (s.window - 1)
			}
		}
	}
	for x := range s.extents {
		if takers[x] > 0 && views[x] > 1 {
			k.fail("I4", "taken while another view exists")
		}
	}
	for i := range s.children {
		if s.children[i].procs == 0 || s.unmaps > 0 {
			continue
		}
		for x, g := range s.children[i].views {
			if g != 0 && (s.extents[x].used == 0 || s.extents[x].gen != g-1) {
				k.fail("I1", "extent free or reused while a child holds a view")
			}
		}
	}
	if s.unmaps > 1 {
		k.fail("I5", "unmapped twice")
	}
	if s.writer[0] == 0 && s.name[0] != 0 && (s.cells[s.name[0]-1].pin != 0) != (s.wished == 1) {
		k.fail("I8", "the flag is not what the last pin or unpin made it")
	}
}

func (k *explorer) judgeView(s *state, v ref) {
	x := &s.extents[v.extent]
	if x.used == 0 || x.gen != v.extentGen {
		k.fail("I1", "extent free or reused while the parent holds a view")
		return
	}
	if s.unmaps > 0 {
		k.fail("I5", "unmapped while a view lives")
	}
	if v.kind != producer {
		return
	}
	c := &s.cells[v.cell-1]
	if x.protected == 0 && c.committed == 1 && (s.named(v.cell) || c.count > 1) {
		k.fail("P2", "published while the producer can still write")
	}
	if x.protected == 1 && c.open == 1 && c.claimed == 0 && !k.faults.noOpen && !k.faults.commitNoHold {
		k.fail("P2", "a reservation was handed back write-protected")
	}
}

// judgeEnd is called for states without a successor.
func (k *explorer) judgeEnd(s *state) {
	for t := range s.threads {
		if s.threads[t].pc != idle {
			k.fail("deadlock", "a thread can never go on")
		}
	}
	if s.closed == 1 && s.unmaps == 1 {
		return
	}
	var listed [nCell]bool
	for c := s.head; c != 0; c = s.cells[c-1].next {
		listed[c-1] = true
	}
	for i := range s.cells {
		c := &s.cells[i]
		switch {
		case c.where == pushed && (s.closed == 1 || !listed[i]):
			k.fail("I2", "a pushed cell is never taken back")
		case c.where == held:
			k.fail("I6", "a hold is kept for ever")
		case c.where == out && c.count == 0:
			k.fail("I2", "a dead cell is never pushed")
		case c.where == out && !s.named(uint8(i+1)):
			k.fail("I2", "a cell without name or view never comes home")
		}
	}
	if s.closed == 1 {
		k.fail("I5", "closed, nothing viewed, never unmapped")
	}
}
