package evict

const (
	smallShare = 10 // the small queue owns one part in smallShare of the bytes
	minGhosts  = 16
	maxGhosts  = 1 << 30

	promoteAbove = 1    // reads an object needs more than, to move from small to main
	maxPassed    = 1024 // objects that one Next passes over because they are hot

	staleShare = 7  // a sweep starts when one object is gone for staleShare live ones
	staleFloor = 64 // and never for fewer than this
	staleSteps = 16 // entries looked at with each removal while a sweep runs
)

// S3FIFO is the eviction policy of the package's name. Not safe for concurrent
// use. It lives as long as its store and needs no closing.
type S3FIFO struct {
	counters Counters
	share    uint64 // bytes of the small queue

	small, main queue
	ghost       ghost
	pool        pool
	live        int // added, and neither evicted nor removed
	round       round
}

// round is a run of refusals without an eviction between them. It ends when
// every object was tried or passed over as hot; if some were passed over, a
// second one follows that passes over none.
type round struct {
	on      bool
	untried int  // at the front of main, not yet met in this round; too many after a sweep
	passed  bool // some object was passed over
	final   bool // pass over none
}

// Usage is the state of a policy in figures. Removed objects are in it until
// they are met.
type Usage struct {
	SmallObjects, MainObjects int
	SmallBytes, MainBytes     uint64
	Ghosts                    int    // remembered keys
	Memory                    uint64 // bytes that the policy itself occupies
}

// NewS3FIFO returns a policy for a store of capacity bytes.
func NewS3FIFO(capacity uint64, counters Counters) *S3FIFO {
	q := &S3FIFO{counters: counters, share: capacity / smallShare}
	q.small.pool, q.main.pool = &q.pool, &q.pool
	return q
}

// Added reports an object that was committed.
func (q *S3FIFO) Added(c Candidate) {
	e := newEntry(c)
	q.live++
	if q.ghost.take(c.Hash) || e.bytes() > q.share {
		q.main.push(e)
	} else {
		q.small.push(e)
	}
}

// Removed reports that an object that was added is gone by other ways than
// Evicted: removed, replaced, taken. Exactly once for each, at any time after
// its counter says so.
func (q *S3FIFO) Removed() {
	q.live--
	q.ghost.trim(q.ghosts())
	q.sweep()
}

// Next returns the object that should leave next and takes it out of its queue;
// the caller answers with Evicted or Refused. False means that there is nothing
// to evict: every object was refused since the last eviction, or none is left.
// The call after that starts a new round.
//
// A round of refusals is at most two calls for each object.
func (q *S3FIFO) Next() (Candidate, bool) {
	for passed := 0; ; {
		e, small, ok := q.pop()
		if !ok {
			if q.lastChance() {
				continue
			}
			return Candidate{}, false
		}
		c := e.candidate()
		c.small = small
		frequency, alive := q.counters.Load(c)
		if !alive {
			continue
		}
		if passed == maxPassed || q.round.final || !q.pass(e, c, frequency) {
			return c, true
		}
		passed++
	}
}

// pop takes the front of the queue whose turn it is. The small one's turn is
// when it has its share, and when main has been tried to its end.
func (q *S3FIFO) pop() (e entry, small, ok bool) {
	q.round.untried = min(q.round.untried, q.main.len())
	exhausted := q.main.len() == 0 || q.round.on && q.round.untried == 0
	if q.small.len() > 0 && (exhausted || q.small.bytes >= q.share) {
		e, ok = q.small.pop()
		return e, true, ok
	}
	if exhausted {
		return entry{}, false, false
	}
	if q.round.untried > 0 {
		q.round.untried--
	}
	e, ok = q.main.pop()
	return e, false, ok
}

// pass sends a hot object to the back of main and lowers its counter.
func (q *S3FIFO) pass(e entry, c Candidate, frequency uint8) bool {
	switch {
	case c.small && frequency > promoteAbove:
		q.counters.Set(c, 0)
	case !c.small && frequency > 0:
		q.counters.Set(c, frequency-1)
	default:
		return false
	}
	q.main.push(e)
	q.round.passed = true
	return true
}

// lastChance ends a round, or turns it into the final one.
func (q *S3FIFO) lastChance() bool {
	again := q.round.on && q.round.passed && !q.round.final && q.main.len() > 0
	q.round = round{}
	if again {
		q.round = round{on: true, final: true, untried: q.main.len()}
	}
	return again
}

// Evicted reports that the candidate is gone.
func (q *S3FIFO) Evicted(c Candidate) {
	q.live--
	q.round = round{}
	if c.small {
		q.ghost.add(c.Hash, q.ghosts())
	} else {
		q.ghost.trim(q.ghosts())
	}
}

// Refused reports that the candidate could not be evicted.
func (q *S3FIFO) Refused(c Candidate, reason Reason) {
	if reason == Stale {
		return
	}
	if !q.round.on {
		q.round = round{on: true, untried: q.main.len()}
	}
	q.main.push(newEntry(c))
}

// Clear forgets all objects and all ghosts, as if nothing had been added.
func (q *S3FIFO) Clear() {
	*q = S3FIFO{counters: q.counters, share: q.share}
	q.small.pool, q.main.pool = &q.pool, &q.pool
}

// Usage returns the state in figures.
func (q *S3FIFO) Usage() Usage {
	return Usage{
		SmallObjects: q.small.len(), MainObjects: q.main.len(),
		SmallBytes: q.small.bytes, MainBytes: q.main.bytes,
		Ghosts: q.ghost.used,
		Memory: uint64(q.pool.blocks)*blockBytes + uint64(len(q.ghost.slots))*memoryBytes +
			8*uint64(len(q.small.dir)+len(q.main.dir)),
	}
}

// ghosts is how many keys the ghost may remember.
func (q *S3FIFO) ghosts() uint32 {
	return uint32(min(max(q.live-q.live/smallShare, minGhosts), maxGhosts))
}

// sweep drops entries of removed objects, a few with each call, first from
// small, then from main. It makes up for staleSteps entries with each removal,
// so a sweep ends before a sixteenth of the entries has gone meanwhile.
func (q *S3FIFO) sweep() {
	if !q.small.sweeping && !q.main.sweeping {
		stale := q.small.len() + q.main.len() - q.live
		if stale <= max(q.live/staleShare, staleFloor) {
			return
		}
		q.small.startSweep()
		q.main.startSweep()
	}
	left := staleSteps
	if q.small.sweeping {
		left = q.small.sweep(left, q.alive)
	}
	if q.main.sweeping && !q.small.sweeping {
		q.main.sweep(left, q.alive)
	}
}

func (q *S3FIFO) alive(e entry) bool {
	_, alive := q.counters.Load(e.candidate())
	return alive
}
