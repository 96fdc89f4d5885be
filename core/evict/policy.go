package evict

// MaxFrequency is the largest value of an access counter. A reader raises the
// counter of its object by one while it is below.
const MaxFrequency = 3

// Candidate names one object to a policy. What Next returns is handed back
// unchanged to Evicted or Refused.
type Candidate struct {
	Unit  uint32 // the object's pin cell; used again after the object is gone
	Seq   uint64 // the object's commit; never used again
	Bytes uint64 // its extent; kept in steps of 64, rounded up, at most 256 GiB
	Hash  uint64 // of its key, the same each time the key is stored

	small bool // came from the small queue
}

// Counters gives a policy the access counters that the readers bump. The
// caller may be asked about an object that is gone, its cell in use for
// another: Seq tells. Both methods run while readers bump, and a bump that is
// lost to Set does no harm.
type Counters interface {
	// Load returns the counter, and false when the object is gone.
	Load(c Candidate) (frequency uint8, alive bool)
	// Set lowers the counter. It is called right after a Load that said alive.
	Set(c Candidate, frequency uint8)
}

// Reason says why a candidate was not evicted.
type Reason uint8

const (
	// Held: the object is viewed or pinned. It goes to the back of the main
	// queue.
	Held Reason = iota
	// Stale: the object was removed or replaced since Next. It is dropped;
	// whoever removed it reports that by Removed, once.
	Stale
)

// None is the policy that evicts nothing. Its zero value is ready and it has no
// state, so it is safe for concurrent use.
type None struct{}

// Added does nothing.
func (None) Added(Candidate) {}

// Removed does nothing.
func (None) Removed() {}

// Next never has a candidate.
func (None) Next() (Candidate, bool) { return Candidate{}, false }

// Evicted does nothing.
func (None) Evicted(Candidate) {}

// Refused does nothing.
func (None) Refused(Candidate, Reason) {}

// Clear does nothing.
func (None) Clear() {}

// Usage is all zero.
func (None) Usage() Usage { return Usage{} }
