package model

// snapshot of both keys: the sets lock for reading, then each cell as in get, one shard after the other.
func (p *step) snapshot(pc uint8) {
	s, t := p.old, p.t
	switch pc {
	case snapSets:
		if p.k.faults.snapApart {
			p.goes(snapLock, "snapshot")
			return
		}
		if s.setsWriter != 0 {
			return
		}
		p.n.setsReaders |= 1 << p.id
		p.goes(snapLock, "snapshot: sets lock for reading")
	case snapLock:
		if s.writer[0] != 0 {
			return
		}
		if s.name[0] == 0 {
			p.n.setsReaders &^= 1 << p.id
			p.ends("snapshot: missing")
			return
		}
		p.n.readers[0] |= 1 << p.id
		t.r = s.ref(int(s.name[0]-1), snapshot)
		t.half = 1
		p.goes(getEpoch, "snapshot: read lock of shard 0")
	case snapLockTwo:
		if s.writer[1] != 0 {
			return
		}
		p.n.readers[1] |= 1 << p.id
		t.r = s.ref(int(s.name[1]-1), snapshot)
		p.goes(getEpoch, "snapshot: read lock of shard 1")
	}
}

func (p *step) snapshotDone() {
	t := p.t
	p.n.readers[1] &^= 1 << p.id
	a, b := t.r2, t.r
	t.r2 = none
	if t.scan == 1 {
		t.r, t.r2, t.half, t.epoch = a, b, 0, 0
		p.goes(scanFinish, "scan: unlock")
		return
	}
	p.n.setsReaders &^= 1 << p.id
	p.snapshotEnds(a, b, "snapshot: unlock, returned")
}

func (p *step) snapshotEnds(a, b ref, label string) {
	if p.old.cells[a.cell-1].batch != p.old.cells[b.cell-1].batch {
		p.k.fail("I9", "a snapshot mixes two generations of a multi-put")
	}
	p.t.r2, p.t.scan = none, 0
	p.view(a)
	p.view(b)
	p.ends(label)
}

// scan is a snapshot that finds its keys itself: it holds what it finds without the sets lock, while the multi-puts note
// in its log what they publish; in the end, under the sets lock, it looks up again what the log has.
func (p *step) scan(pc uint8) {
	s, t := p.old, p.t
	m := &p.k.faults
	switch pc {
	case scanStart:
		if s.setsWriter != 0 && !m.scanUnlocked {
			return
		}
		t.scan, p.n.scanning, p.n.logged = 1, 1, 0
		p.goes(snapLock, "scan: begins")
	case scanFinish:
		if s.setsWriter != 0 {
			return
		}
		p.n.scanning, p.n.logged = 0, 0
		if s.logged == 0 || m.scanNoLog {
			a, b := t.r, t.r2
			p.snapshotEnds(a, b, "scan: log is empty, returned")
			return
		}
		p.n.setsReaders |= 1 << p.id
		t.scan, t.after, t.to = 0, leaveScan, relEpoch
		p.goes(relEpoch, "scan: sets lock for reading; looks up again")
	}
}

// multi publishes both keys one shard after the other, under the sets lock.
func (p *step) multi(pc uint8) {
	k, s, t := p.k, p.old, p.t
	m := &k.faults
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
				q.goes(multiSets, k.text("multi-put: cells %d and %d", a, b))
			})
		})
		if !ok {
			p.ends("multi-put: no memory")
		}
	case multiSets:
		if m.multiApart {
			p.goes(multiLock, "multi-put")
			return
		}
		if s.setsWriter != 0 || s.setsReaders != 0 {
			return
		}
		p.n.setsWriter = uint8(p.id + 1)
		if s.scanning == 1 {
			p.n.logged = 1
		}
		p.goes(multiLock, "multi-put: sets lock, log")
	case multiLock:
		if !s.free(0) {
			return
		}
		p.swap()
		if m.multiLetGo {
			p.n.setsWriter = 0
		}
		p.goes(multiLockTwo, "multi-put: shard 0 swapped in its lock")
	case multiLockTwo:
		if !s.free(1) {
			return
		}
		p.swapTwo()
		p.goes(multiUnlock, "multi-put: shard 1 swapped in its lock")
	case multiUnlock:
		if s.setsWriter == uint8(p.id+1) {
			p.n.setsWriter = 0
		}
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

// clone gives out a view of its own for one cell of a snapshot: it counts where the snapshot counts already, so the pair
// stays as it is. Here the snapshot is closed with it: its cells are released.
func (p *step) clone(pc uint8) {
	t := p.t
	if pc == cloneLate { // fault: the snapshot's count may be gone
		c := p.k.touch(&p.n, t.views[0])
		c.count++
		p.ends("clone: count after the snapshot was closed")
		return
	}
	c := p.k.touch(&p.n, t.r)
	c.count++
	t.views[0] = t.r
	t.views[0].kind = viewer
	t.to = relEpoch
	p.goes(relEpoch, p.k.text("clone: count of cell %d -> %d; snapshot given up", t.r.cell-1, c.count))
}

func (k *explorer) startClone(s *state, id int) {
	if k.Menu[id]&opClone == 0 || s.threads[id].views[0].kind != snapshot {
		return
	}
	p := k.begin(s, id)
	t := p.t
	t.budget--
	t.r, t.r2 = t.views[0], t.views[1]
	if k.faults.cloneLate {
		t.views[0].kind = viewer
		t.views[1] = none
		t.to, t.after = relEpoch, leaveClone
		p.goes(relEpoch, "clone: snapshot closed first")
		return
	}
	t.views = [nView]ref{}
	p.goes(cloneCount, "clone")
}
