package model

import "fmt"

// Operations of a menu.
const (
	opGet = 1 << iota
	opRemove
	opPut
	opPin // pin and unpin
	opEvict
	opTake
	opReserve
	opCommit
	opSnapshot
	opMulti
	opScan
	opClone
	opClose
	opFork
)

// Program counters. One block each to an operation, in the order of its steps.
const (
	idle = iota
	gateLook
	gateLeave

	getLock
	getEpoch
	getCount
	getPair
	getKids
	getScan
	getSwap
	getUnlock

	relEpoch
	relLast
	relCount
	relLate

	pushLoad
	pushSwap
	pushWake

	remLock
	remUnlock
	remCount
	remSecond

	putAlloc
	putLock
	putUnlock
	putRelink

	pinSet
	pinClear

	evictEarly
	evictLock
	evictSwap
	evictUnlock

	takeLock
	takeCount
	takeEpoch
	takePair
	takeKids
	takeScan
	takeSwap
	takeUnlock

	resEpoch
	resAlloc

	comHold
	comProtect
	comLock
	comUnlock
	comUndo
	comUndoLate

	snapSets
	snapLock
	snapLockTwo

	scanStart
	scanFinish

	cloneCount
	cloneLate

	multiAlloc
	multiSets
	multiLock
	multiLockTwo
	multiUnlock

	closeWait
	closeWaitTwo
	closeSet
	closeUnlink
	closeMark
	closeWake

	forkKids
	forkSlot
	forkRaise
	forkCall
	forkRaiseAgain
	forkDone
)

// explorer makes the successors of a state and judges them.
type explorer struct {
	Scenario
	faults  Faults
	tracing bool
	broken  string // the rule
	how     string
	emit    func(*state, string)
	scratch step
}

func (k *explorer) fail(rule, how string) {
	if k.broken == "" {
		k.broken, k.how = rule, how
	}
}

// text makes a label, only while a trace is rebuilt.
func (k *explorer) text(format string, a ...any) string {
	if !k.tracing {
		return ""
	}
	return fmt.Sprintf(format, a...)
}

// touch is an access to a cell through r.
func (k *explorer) touch(s *state, r ref) *cell {
	c := &s.cells[r.cell-1]
	if s.unmaps > 0 {
		k.fail("I5", "store memory touched after unmap")
	}
	if c.gen != r.cellGen || c.where != out {
		k.fail("I3", "cell touched after it was pushed, taken back or reused")
	}
	return c
}

// holds is the rule by which a child keeps a cell: closed on both sides.
func (k *explorer) holds(first, last, epoch uint8) bool {
	if epoch == 0 {
		return false
	}
	if k.faults.halfOpen {
		return first < epoch && epoch <= last
	}
	return first <= epoch && epoch <= last
}

// step is one thread about to move: n is the state to change, t its thread.
type step struct {
	k   *explorer
	id  int
	old *state
	n   state
	t   *thread
}

// goes emits n with the thread at pc.
func (p *step) goes(pc uint8, label string) {
	p.t.pc = pc
	p.k.emit(&p.n, p.k.text("T%d %s", p.id, label))
}

// ends emits n with the operation over, or with its second reference's turn.
func (p *step) ends(label string) {
	t := p.t
	switch {
	case t.r2 != none:
		*t = thread{pc: t.to, after: t.after, to: t.to, epoch: t.epoch, budget: t.budget, views: t.views, r: t.r2}
	case t.after == leaveGate:
		*t = thread{pc: gateLeave, budget: t.budget, views: t.views}
	case t.after == leaveScan:
		*t = thread{pc: snapLock, budget: t.budget, views: t.views}
	case t.after == leaveClone:
		*t = thread{pc: cloneLate, budget: t.budget, views: t.views}
	case t.after == leaveClose:
		*t = thread{pc: closeUnlink, after: leaveClose, budget: t.budget, views: t.views}
	default:
		*t = thread{budget: t.budget, views: t.views}
	}
	p.k.emit(&p.n, p.k.text("T%d %s", p.id, label))
}

func (p *step) view(r ref) {
	for i := range p.t.views {
		if p.t.views[i] == none {
			p.t.views[i] = r
			return
		}
	}
	p.k.fail("model", "more views than the thread can keep")
}

// begin makes a step from s. It lives until the next begin: one piece of memory serves all.
func (k *explorer) begin(s *state, id int) *step {
	p := &k.scratch
	p.k, p.id, p.old, p.n = k, id, s, *s
	p.t = &p.n.threads[id]
	return p
}

// successors emits every state that follows s in one step.
func (k *explorer) successors(s *state) {
	for id := range s.threads {
		pc := s.threads[id].pc
		if pc == idle {
			k.choose(s, id)
			continue
		}
		p := k.begin(s, id)
		switch {
		case pc <= gateLeave:
			p.gate(pc)
		case pc <= getUnlock:
			p.get(pc)
		case pc <= relLate:
			p.release(pc)
		case pc <= pushWake:
			p.push(pc)
		case pc <= remSecond:
			p.remove(pc)
		case pc <= putRelink:
			p.put(pc)
		case pc <= pinClear:
			p.pin(pc)
		case pc <= evictUnlock:
			p.evict(pc)
		case pc <= takeUnlock:
			p.take(pc)
		case pc <= resAlloc:
			p.reserve(pc)
		case pc <= comUndoLate:
			p.commit(pc)
		case pc <= snapLockTwo:
			p.snapshot(pc)
		case pc <= scanFinish:
			p.scan(pc)
		case pc <= cloneLate:
			p.clone(pc)
		case pc <= multiUnlock:
			p.multi(pc)
		case pc <= closeWake:
			p.close(pc)
		default:
			p.fork(pc)
		}
	}
	k.childSteps(s)
	k.drain(s, 0)
	k.drain(s, 1)
}

// choose starts whatever an idle thread may start.
func (k *explorer) choose(s *state, id int) {
	for owner := range s.threads {
		if owner != id && !k.Shared {
			continue
		}
		for i, r := range s.threads[owner].views {
			if r == none || (i > 0 && r == s.threads[owner].views[0]) {
				continue
			}
			if owner == id || r.kind == producer {
				k.startRelease(s, id, owner, i)
			}
			if r.kind == producer && k.Menu[id]&opCommit != 0 {
				k.startCommit(s, id, r)
			}
		}
	}
	t := &s.threads[id]
	if t.budget == 0 {
		return
	}
	free := 0
	for _, r := range t.views {
		if r == none {
			free++
		}
	}
	if free > 0 {
		k.start(s, id, opGet, getLock, "get")
		k.start(s, id, opTake, takeLock, "take")
		k.start(s, id, opReserve, resEpoch, "reserve")
	}
	if free == nView {
		k.start(s, id, opSnapshot, snapSets, "snapshot")
		k.start(s, id, opScan, scanStart, "scan")
	}
	k.start(s, id, opRemove, remLock, "remove")
	k.start(s, id, opPut, putAlloc, "put")
	k.start(s, id, opMulti, multiAlloc, "multi-put")
	k.start(s, id, opPin, pinSet, "pin")
	k.start(s, id, opPin, pinClear, "unpin")
	k.startClone(s, id)
	k.startEvict(s, id)
	k.startClose(s, id)
	k.startFork(s, id)
}

// start begins a call at pc, through the gate if the scenario has one.
func (k *explorer) start(s *state, id, op int, pc uint8, label string) {
	if k.Menu[id]&op == 0 {
		return
	}
	p := k.begin(s, id)
	p.t.budget--
	p.enter(pc, label)
}

// enter is the first half of the call gate: count, in the stripe of this thread; then look at closed.
func (p *step) enter(pc uint8, label string) {
	if !p.k.Gate {
		p.goes(pc, label)
		return
	}
	p.t.to, p.t.after = pc, leaveGate
	if p.k.faults.gateLookFirst {
		if p.old.closed == 0 {
			p.goes(gateLook, label+" (saw not closed)")
		}
		return
	}
	p.n.inflight[p.id%nStripe]++
	p.goes(gateLook, label+": in flight + 1")
}

func (p *step) gate(pc uint8) {
	stripe := p.id % nStripe
	switch {
	case pc == gateLeave:
		p.n.inflight[stripe]--
		p.goes(idle, "in flight - 1")
	case p.k.faults.gateLookFirst:
		p.n.inflight[stripe]++
		p.turn("in flight + 1")
	case p.old.closed == 1:
		p.t.r = none
		p.ends("sees closed")
	default:
		p.turn("sees open")
	}
}

// turn goes where the gate leads.
func (p *step) turn(label string) {
	pc := p.t.to
	p.t.to = 0
	p.goes(pc, label)
}

// alloc emits through f one state for each home cell and free extent. Those never used before are all
// alike: the first of them stands for the others.
func (k *explorer) alloc(s *state, f func(n *state, c int)) (ok bool) {
	freshCell := false
	for c := range k.Cells {
		if s.cells[c].where != home || (freshCell && s.cells[c].gen == 0) {
			continue
		}
		freshCell = freshCell || s.cells[c].gen == 0
		freshExtent := false
		for x := range k.Extents {
			e := &s.extents[x]
			if e.used != 0 || (freshExtent && e.gen == 0) {
				continue
			}
			freshExtent = freshExtent || e.gen == 0
			ok = true
			if e.protected != 0 {
				k.fail("P2", "extent handed out while its pages are still protected")
			}
			n := *s
			n.cells[c] = cell{gen: s.cells[c].gen + 1, where: out, extent: uint8(x)}
			n.extents[x] = extent{used: 1, gen: e.gen + 1}
			f(&n, c)
		}
	}
	return ok
}
