package evict

// ghost remembers the keys of the objects that last left the small queue: those
// of the newest window insertions. Time is counted in insertions.
//
// It is one open-addressed table with linear probing. A fingerprint's home is
// its value scaled to the table, so that the table lies in the order of the
// fingerprints and resizing is one pass over both. What has expired is taken
// out by a hand that goes round the table, sweepStep slots with each insertion.
type ghost struct {
	slots    []memory
	used     int
	capacity uint32 // the largest window that slots have room for
	now      uint32 // insertions so far; wraps
	window   uint32
	hand     int
}

// memory is one remembered key; print 0 marks a free slot.
type memory struct{ print, time uint32 }

const (
	sweepStep   = 32 // more than 16 × slots ÷ capacity: a round takes at most capacity/16 insertions
	ghostSlack  = 16 // the table grows by a part in ghostSlack
	memoryBytes = 8
)

// fingerprint spreads hashes whose good bits lie anywhere.
func fingerprint(hash uint64) uint32 {
	return max(1, uint32(hash*0x9e3779b97f4a7c15>>32))
}

// take forgets the key and says whether it was remembered.
func (g *ghost) take(hash uint64) bool {
	if g.used == 0 {
		return false
	}
	i, found := g.find(fingerprint(hash))
	if !found {
		return false
	}
	fresh := g.fresh(g.slots[i])
	g.remove(i)
	return fresh
}

// add remembers the key as the newest of at most limit.
func (g *ghost) add(hash uint64, limit uint32) {
	g.trim(limit)
	// The second condition is for a hand that fell behind: find needs a free slot.
	if limit > g.capacity || g.used+2 > len(g.slots)-len(g.slots)/16 {
		g.rebuild(limit)
	}
	g.now++
	g.window = min(g.window+1, limit)
	print := fingerprint(hash)
	i, found := g.find(print)
	if !found {
		g.used++
	}
	g.slots[i] = memory{print, g.now}
	g.sweep()
}

// trim forgets all but the newest limit insertions.
func (g *ghost) trim(limit uint32) {
	g.window = min(g.window, limit)
	if limit < g.capacity-g.capacity/8-min(g.capacity/8, ghostSlack) {
		g.rebuild(limit)
	}
}

func (g *ghost) fresh(m memory) bool { return g.now-m.time < g.window }

// find returns the key's slot, or the free one where it belongs.
func (g *ghost) find(print uint32) (slot int, found bool) {
	for i := g.home(print); ; i = g.after(i) {
		switch g.slots[i].print {
		case print:
			return i, true
		case 0:
			return i, false
		}
	}
}

func (g *ghost) home(print uint32) int {
	return int(uint64(print) * uint64(len(g.slots)) >> 32)
}

func (g *ghost) after(i int) int {
	if i++; i < len(g.slots) {
		return i
	}
	return 0
}

// remove frees the slot and moves back what had been pushed on by it.
func (g *ghost) remove(i int) {
	for j := g.after(i); g.slots[j].print != 0; j = g.after(j) {
		if g.distance(g.home(g.slots[j].print), j) >= g.distance(i, j) {
			g.slots[i] = g.slots[j]
			i = j
		}
	}
	g.slots[i] = memory{}
	g.used--
}

func (g *ghost) distance(from, to int) int {
	if to < from {
		to += len(g.slots)
	}
	return to - from
}

// sweep moves the hand on. A slot that was freed is looked at again, since
// another memory may have moved into it.
func (g *ghost) sweep() {
	for range sweepStep {
		if m := g.slots[g.hand]; m.print != 0 && !g.fresh(m) {
			g.remove(g.hand)
			continue
		}
		g.hand = g.after(g.hand)
	}
}

// rebuild makes a table for a window of limit and some growth, and moves what
// has not expired.
func (g *ghost) rebuild(limit uint32) {
	old := g.slots
	g.capacity = limit + limit/ghostSlack
	g.slots = make([]memory, g.capacity+g.capacity/4+8)
	g.used, g.hand = 0, 0
	for _, m := range old {
		if m.print != 0 && g.fresh(m) {
			i, _ := g.find(m.print)
			g.slots[i] = m
			g.used++
		}
	}
}
