package model

const (
	nThread = 3
	nCell   = 4
	nExtent = 4
	nChild  = 2
	nView   = 2
	nKey    = 2 // each in a shard of its own
	nStripe = 2 // of the call gate
)

// Where a cell is. Ghost, except that the drain knows which cells it holds.
const (
	home = iota
	out
	pushed
	back
	held
)

// What a reference is good for. Zero is a reference without a view.
const (
	viewer = 1 + iota
	producer
	taker
	snapshot
)

// ref names a cell and its extent as they were when the reference was made; cell is a number + 1.
// The generations are ghost: they tell a reused cell or extent from the one that was meant.
type ref struct{ cell, cellGen, extent, extentGen, kind uint8 }

type cell struct {
	dead, open, count      uint8 // the word
	first, last            uint8 // the pair
	next, extent           uint8
	pin                    uint8 // of the record that the cell stands for
	claimed                uint8 // in the table of open reservations: a commit is at work
	where, gen             uint8 // ghost
	seen, committed, batch uint8 // ghost: fork windows with a view in them; was published; by which multi-put
}

type extent struct{ used, gen, protected uint8 }

type child struct {
	slot   uint8 // the published epoch; 0 = free
	counts uint8 // it is in kids
	phase  uint8 // 0 unused, 1 prepared, 2 forked
	procs  uint8 // processes that live: child, grandchild
	grand  uint8 // a grandchild was made
	views  [nExtent]uint8
}

// thread holds registers and views of a thread. What an operation keeps in a register is set back to
// zero when it is over, so that equal states are equal.
type thread struct {
	pc, after          uint8 // where it is; how its operation ends (leaveIdle …)
	to                 uint8 // behind the gate; for a second reference, where its turn begins
	epoch, first, last uint8
	flag, i, new, new2 uint8
	head, headClosed   uint8
	half               uint8 // snapshot: which of its two cells is at work
	scan               uint8 // it is a scan
	budget             uint8
	r, r2              ref
	views              [nView]ref
}

// drainRun is one run of the drain: 0 is the watcher's goroutine, 1 an allocation that found the store full.
type drainRun struct{ pc, cell, next, first, last, i, hold, walk uint8 }

type state struct {
	epoch, kids             uint8 // of the process: E, number of published children
	head, headClosed        uint8
	wake, ended             uint8 // wake of closed stores; a child ended and the watcher has not looked yet
	closed, unmaps          uint8
	inflight                [nStripe]uint8
	forkMu, drainMu         uint8
	name                    [nKey]uint8 // the index: cell + 1
	writer, readers         [nKey]uint8 // the shard's lock
	setsWriter, setsReaders uint8       // the lock of atomic sets
	scanning, logged        uint8       // a scan is at work; a multi-put was published meanwhile
	wished, window, batches uint8       // ghost: pin of name 0; child being forked; multi-puts so far
	drains                  [2]drainRun
	cells                   [nCell]cell
	extents                 [nExtent]extent
	children                [nChild]child
	threads                 [nThread]thread
}

// How an operation ends.
const (
	leaveIdle  = iota
	leaveGate  // it counted itself in flight
	leaveClose // it is a step of close, which goes on
	leaveScan  // a scan gave up what it held and looks up again
	leaveClone // fault: a clone after the release
)

var none ref

func (s *state) ref(c int, kind uint8) ref {
	x := s.cells[c].extent
	return ref{uint8(c + 1), s.cells[c].gen, x, s.extents[x].gen, kind}
}

// free says whether the write lock of key can be had now.
func (s *state) free(key int) bool { return s.writer[key] == 0 && s.readers[key] == 0 }

// unlink takes the name away; a pin goes with its name.
func (s *state) unlink(key int) {
	s.name[key] = 0
	if key == 0 {
		s.wished = 0
	}
}

func (s *state) named(c uint8) bool { return s.name[0] == c || s.name[1] == c }
