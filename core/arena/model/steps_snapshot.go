package model

// snapshot of both keys: all read locks first, in shard order; then every cell as in get.
func (p *step) snapshot(pc uint8) {
	s, t := p.old, p.t
	switch pc {
	case snapLock:
		if s.writer[0] != 0 {
			return
		}
		if s.name[0] == 0 {
			p.ends("snapshot: missing")
			return
		}
		p.n.readers[0] |= 1 << p.id
		t.r = s.ref(int(s.name[0]-1), snapshot)
		if p.k.faults.snapApart {
			t.half = 1
			p.goes(getEpoch, "snapshot: read lock of shard 0")
			return
		}
		p.goes(snapLockTwo, "snapshot: read lock of shard 0")
	case snapLockTwo:
		if s.writer[1] != 0 {
			return
		}
		if s.name[1] == 0 {
			p.n.readers[0] &^= 1 << p.id
			t.r = none
			p.ends("snapshot: missing")
			return
		}
		p.n.readers[1] |= 1 << p.id
		t.r2 = s.ref(int(s.name[1]-1), snapshot)
		t.half = 1
		p.goes(getEpoch, "snapshot: read lock of shard 1")
	case snapGap: // fault: shard 1 is locked after shard 0 was unlocked
		if s.writer[1] != 0 {
			return
		}
		p.n.readers[1] |= 1 << p.id
		t.r = s.ref(int(s.name[1]-1), snapshot)
		p.goes(getCount, "snapshot: read lock of shard 1")
	}
}

func (p *step) snapshotDone() {
	t := p.t
	p.n.readers[1] &^= 1 << p.id
	a, b := t.r2, t.r
	if p.old.cells[a.cell-1].batch != p.old.cells[b.cell-1].batch {
		p.k.fail("I9", "a snapshot mixes two generations of a multi-put")
	}
	t.r2 = none
	p.view(a)
	p.view(b)
	p.ends("snapshot: unlock, returned")
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
