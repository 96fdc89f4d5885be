package cell

import (
	"sync/atomic"
)

// Children is how many slots for forked children there are. The last one is never given to a single child: it
// is the permanent entry, set when a child could not be followed (no free slot, no pipe, E near its end).
const Children = 1024

// Permanent is the slot of the permanent entry.
const Permanent = Children - 1

// Process holds the words that Go and C share for the whole process. They are static: never unmapped, never moved.
// With capi they lie in C's memory, in the pure Go build in Go's.
type Process struct {
	Epoch atomic.Uint32           // fork epoch E; odd while a fork is in progress
	Kids  atomic.Uint32           // children published and not yet seen to end; 0 lets every scan be skipped
	High  atomic.Uint32           // slots at and above were never used (Permanent apart)
	Wake  atomic.Int32            // eventfd that a push into a closed list and the fork handlers write, -1 = none
	Child [Children]atomic.Uint64 // epoch of each child, 0 = free
}
