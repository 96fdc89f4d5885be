package shim

// MaxChain is the most that one call posts.
const MaxChain = 64

// MaxTargets is the most that one work request has.
const MaxTargets = 16

// Read is one work request: what lies at Remote is copied to N targets one after another, the first of which is number First of
// those that the chain is posted with. There is no pointer in it.
type Read struct {
	Remote, ID uint64
	RKey       uint32
	First, N   uint32
	Signaled   uint32 // not zero: its end is told even when it went well
}
