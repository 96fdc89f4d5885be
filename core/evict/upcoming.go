package evict

// Upcoming shows objects in about the order in which Next would give them, and
// takes none out: what is hot, and would be passed over, is left out, and what
// was refused in the present round is not known. It ends when visit returns
// false, or when it has looked at most entries.
func (q *S3FIFO) Upcoming(most int, visit func(Candidate) bool) {
	small, main := cursor{&q.small, q.small.head}, cursor{&q.main, q.main.head}
	for left := q.small.bytes; most > 0; most-- {
		e, threshold, ok := entry{}, uint8(promoteAbove), false
		if left >= q.share {
			e, ok = small.next()
			left -= min(left, e.bytes())
		}
		if !ok {
			threshold = 0
			e, ok = main.next()
		}
		if !ok {
			threshold = promoteAbove
			if e, ok = small.next(); !ok {
				return
			}
		}
		c := e.candidate()
		if frequency, alive := q.counters.Load(c); alive && frequency <= threshold && !visit(c) {
			return
		}
	}
}

// cursor walks over a queue that does not change meanwhile.
type cursor struct {
	q   *queue
	pos uint64
}

func (c *cursor) next() (entry, bool) {
	if c.q.sweeping && c.pos >= c.q.write && c.pos < c.q.read {
		c.pos = c.q.read
	}
	if c.pos == c.q.tail {
		return entry{}, false
	}
	c.pos++
	return *c.q.at(c.pos - 1), true
}
