package evict

const (
	granule    = 64
	blockLen   = 512
	blockBytes = 24 * blockLen
)

// entry is a queued Candidate: 24 bytes without pointers.
type entry struct {
	seq, hash  uint64
	unit, size uint32 // size in granules
}

type block [blockLen]entry

func newEntry(c Candidate) entry {
	size := c.Bytes / granule
	if c.Bytes%granule != 0 {
		size++
	}
	return entry{seq: c.Seq, hash: c.Hash, unit: c.Unit, size: uint32(min(size, 1<<32-1))}
}

func (e entry) bytes() uint64 { return uint64(e.size) * granule }

func (e entry) candidate() Candidate {
	return Candidate{Unit: e.unit, Seq: e.seq, Bytes: e.bytes(), Hash: e.hash}
}

// queue is a first-in first-out queue of entries in blocks, from which a sweep
// can drop entries anywhere without stopping the queue: the sweep copies what
// it keeps from read to write, and [write, read) is a hole that pop jumps over.
//
// Positions only grow, except that the end of a sweep pulls tail back. Position
// p lies in block p/blockLen, found at that number modulo len(dir). Blocks that
// hold no entry are given back at once.
type queue struct {
	dir         []*block
	head, tail  uint64
	write, read uint64 // head ≤ write ≤ read ≤ tail while sweeping
	sweeping    bool
	bytes       uint64
	pool        *pool
}

func (q *queue) len() int {
	n := q.tail - q.head
	if q.sweeping {
		n -= q.read - q.write
	}
	return int(n)
}

func (q *queue) slot(pos uint64) **block {
	return &q.dir[pos/blockLen&uint64(len(q.dir)-1)]
}

func (q *queue) at(pos uint64) *entry { return &(*q.slot(pos))[pos%blockLen] }

func (q *queue) push(e entry) {
	q.reach(q.tail)
	q.store(q.tail, e)
	q.tail++
	q.bytes += e.bytes()
}

func (q *queue) pop() (entry, bool) {
	if q.sweeping && q.head == q.write {
		q.jump()
	}
	if q.head == q.tail {
		return entry{}, false
	}
	e := *q.at(q.head)
	q.head++
	if q.head%blockLen == 0 {
		q.drop(q.head - 1)
	}
	if q.sweeping && q.head > q.write {
		q.write, q.read = q.head, q.head
	}
	q.bytes -= e.bytes()
	return e, true
}

// jump moves head and the sweep's write position over the hole.
func (q *queue) jump() {
	if q.write/blockLen != q.read/blockLen {
		q.drop(q.write)
	}
	q.head, q.write = q.read, q.read
}

// startSweep puts the sweep's two positions at the front.
func (q *queue) startSweep() { q.write, q.read, q.sweeping = q.head, q.head, true }

// sweep looks at up to n entries, keeps those that keep says yes to, and returns
// how many steps are left when it has reached the end.
func (q *queue) sweep(n int, keep func(entry) bool) int {
	for ; n > 0 && q.read < q.tail; n-- {
		e := *q.at(q.read)
		if keep(e) {
			q.store(q.write, e)
			q.write++
		} else {
			q.bytes -= e.bytes()
		}
		q.read++
		if q.read%blockLen == 0 && (q.read-1)/blockLen > q.write/blockLen {
			q.drop(q.read - 1) // else write is in it, or has filled it
		}
	}
	if q.read == q.tail {
		q.endSweep()
	}
	return n
}

func (q *queue) endSweep() {
	if q.tail%blockLen != 0 && q.tail/blockLen != q.write/blockLen {
		q.drop(q.tail)
	}
	q.tail, q.sweeping = q.write, false
}

// store writes the entry at pos, whose place in dir exists.
func (q *queue) store(pos uint64, e entry) {
	s := q.slot(pos)
	if *s == nil {
		*s = q.pool.get()
	}
	(*s)[pos%blockLen] = e
}

func (q *queue) drop(pos uint64) {
	s := q.slot(pos)
	if *s != nil {
		q.pool.put(*s)
		*s = nil
	}
}

// reach makes dir long enough for positions from head to pos.
func (q *queue) reach(pos uint64) {
	first, last := q.head/blockLen, pos/blockLen
	if last-first < uint64(len(q.dir)) {
		return
	}
	old := q.dir
	q.dir = make([]*block, max(4, 2*len(old)))
	for b := first; b < last; b++ {
		q.dir[b&uint64(len(q.dir)-1)] = old[b&uint64(len(old)-1)]
	}
}

// pool keeps a few blocks between uses and counts those that exist.
type pool struct {
	spare  [4]*block
	spares int
	blocks int
}

func (p *pool) get() *block {
	if p.spares == 0 {
		p.blocks++
		return new(block)
	}
	p.spares--
	b := p.spare[p.spares]
	p.spare[p.spares] = nil
	return b
}

func (p *pool) put(b *block) {
	if p.spares == len(p.spare) {
		p.blocks--
		return
	}
	p.spare[p.spares] = b
	p.spares++
}
