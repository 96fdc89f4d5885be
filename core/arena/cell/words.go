package cell

import "sync/atomic"

// Children is how many slots for forked children there are. The last one is never given to a single child: it
// is the permanent entry, set when a child could not be followed (no free slot, no pipe, the epoch near its end).
const Children = 1024

// Permanent is the slot of the permanent entry.
const Permanent = Children - 1

// Process holds the words that Go and C share for the whole process. They are static: never unmapped, never moved.
// With capi they lie in C's memory, in the pure Go build in Go's.
type Process struct {
	Epoch atomic.Uint32           // fork epoch; odd while a fork is in progress
	Kids  atomic.Uint32           // children published and not yet seen to end; 0 lets every scan be skipped
	High  atomic.Uint32           // slots at and above were never used (Permanent apart)
	Wake  atomic.Int32            // eventfd that wakes the watcher, never closed; -1 = none
	Child [Children]atomic.Uint64 // epoch of each child, 0 = free; [Permanent]: {first, last} epoch of the unfollowed
}

// Holds reports whether a child that lives may read what was viewed between the epochs of pair.
func (p *Process) Holds(pair uint64) bool {
	if p.Kids.Load() == 0 {
		return false
	}
	for i := range p.High.Load() {
		if within(pair, p.Child[i].Load()) {
			return true
		}
	}
	// The permanent entry stands for all children that could not be followed: {first, last} of their epochs.
	e := p.Child[Permanent].Load()
	return e != 0 && first(pair) <= last(e) && first(e) <= last(pair)
}

func within(pair, e uint64) bool {
	return e != 0 && uint64(first(pair)) <= e && e <= uint64(last(pair))
}

// ChildEnded frees the slot of a child that is known to have ended. The caller has the held cells looked at again.
func (p *Process) ChildEnded(slot uint32) {
	p.Child[slot].Store(0)
	p.Kids.Add(^uint32(0))
}
