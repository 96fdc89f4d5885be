package timing

import (
	"sync"
	"sync/atomic"
)

// DefaultRecent is how many records a Recorder keeps when it is not told.
const DefaultRecent = 4096

// Recorder gathers records. See the package's text.
type Recorder struct {
	trace        *Trace
	sequence     atomic.Uint64
	inconsistent atomic.Uint64
	tallies      [kinds][measured]atomic.Pointer[tally]
	refused      [kinds][classes]atomic.Uint64 // of the classes that have no tally
	ring         []slot
}

// slot is one place of the ring. Its lock is held for the copy of one record.
type slot struct {
	mu     sync.Mutex
	record Record
}

// tally is what is kept of one kind and class.
type tally struct {
	count, bytes, chunks atomic.Uint64
	shared               atomic.Uint64
	chunkMax, chunkSum   atomic.Int64
	byPath               [paths]atomic.Uint64
	of                   [Measures]histogram
}

// NewRecorder keeps the last `recent` records, DefaultRecent for 0 or less. The trace may be nil; it stays the caller's,
// who closes it.
func NewRecorder(recent int, trace *Trace) *Recorder {
	if recent <= 0 {
		recent = DefaultRecent
	}
	return &Recorder{trace: trace, ring: make([]slot, recent)}
}

// Add takes up a record, gives it its number, and returns that.
func (c *Recorder) Add(r Record) uint64 {
	r.Sequence = c.sequence.Add(1)
	c.count(&r)
	at := &c.ring[r.Sequence%uint64(len(c.ring))]
	at.mu.Lock()
	if at.record.Sequence < r.Sequence { // who was overtaken by a whole round is not recent
		at.record = r
	}
	at.mu.Unlock()
	if c.trace != nil {
		c.trace.offer(&r)
	}
	return r.Sequence
}

func (c *Recorder) count(r *Record) {
	switch {
	case !r.Consistent():
		c.inconsistent.Add(1)
	case r.Class < measured:
		c.tally(r.Kind, r.Class).add(r)
	default:
		c.refused[r.Kind][r.Class].Add(1)
	}
}

func (c *Recorder) tally(k Kind, of Class) *tally {
	at := &c.tallies[k][of]
	if t := at.Load(); t != nil {
		return t
	}
	at.CompareAndSwap(nil, new(tally))
	return at.Load()
}

func (t *tally) add(r *Record) {
	for m, v := range r.measures() {
		t.of[m].add(v)
	}
	t.bytes.Add(r.Bytes)
	t.byPath[r.Path].Add(1)
	if r.Shared {
		t.shared.Add(1)
	}
	if r.Chunks != 0 {
		t.chunks.Add(uint64(r.Chunks))
		t.chunkSum.Add(r.ChunkSum)
		raise(&t.chunkMax, r.ChunkMax)
	}
	t.count.Add(1) // last: a distribution is never short of values
}

// Recent are the last records, at most n of them (all that are kept, for 0 or less), oldest first. Records that are added
// meanwhile may be in it or not.
func (c *Recorder) Recent(n int) []Record {
	last := c.sequence.Load()
	kept := min(uint64(len(c.ring)), last)
	if n > 0 {
		kept = min(kept, uint64(n))
	}
	found := make([]Record, 0, kept)
	for s := last - kept + 1; s <= last; s++ {
		at := &c.ring[s%uint64(len(c.ring))]
		at.mu.Lock()
		if at.record.Sequence == s { // else it is still on its way, or gone
			found = append(found, at.record)
		}
		at.mu.Unlock()
	}
	return found
}
