package rdma

import (
	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

// queue is a queue pair with the requests that were posted on it, oldest first. Requests end in the order in which they were
// posted, so that the end of one tells of all before it. All but the first fields is under conn.mu.
type queue struct {
	conn   *Conn
	poller *poller
	slot   int
	base   uint64 // of the ids
	qp     ibv.QP
	depth  uint32

	poster     *shim.Poster
	ring       []posted
	head, tail uint32 // sequence numbers: next to post, oldest under way
	silent     uint32 // posted since the last that tells its end
	chain      [shim.MaxChain]shim.Read
	targets    []ibv.SGE // of the chain, so many for each read as one may have
	most       int       // how many that is
}

// posted is a request under way.
type posted struct {
	batch *Batch
	read  int32
}

func (q *queue) underWay() uint32 { return q.head - q.tail }

func (q *queue) at(sequence uint32) *posted { return &q.ring[sequence&uint32(len(q.ring)-1)] }

// fill builds a chain from the waiting batches, as long as credits allow, and returns its length.
func (q *queue) fill() int {
	c, n := q.conn, 0
	room := int(min(q.depth-q.underWay(), shim.MaxChain))
	for n < room && len(c.waiting) > 0 {
		b := c.waiting[0]
		r := &b.reads[b.next]
		remote := r.From.Addr + r.FromOffset + b.place.offset
		if targets := r.cut(&b.place, c.most, q.targets[n*q.most:][:q.most]); targets > 0 {
			sequence := q.head + uint32(n)
			q.chain[n] = shim.Read{Remote: remote, ID: q.base | uint64(sequence), RKey: r.From.RKey, First: uint32(n * q.most),
				N: uint32(targets)}
			*q.at(sequence) = posted{batch: b, read: int32(b.next)}
			n++
			b.unposted--
		}
		if b.place.offset == r.Length {
			b.next, b.place = b.next+1, place{}
		}
		if b.unposted == 0 {
			c.waiting[0] = nil
			c.waiting = c.waiting[1:]
		}
	}
	return n
}

// post posts the first n reads of the chain. The last one tells its end, and so does one of every quarter of the depth.
func (q *queue) post(n int) error {
	for i := range n {
		if q.silent++; i == n-1 || q.silent >= max(q.depth/4, 1) {
			q.chain[i].Signaled = 1
			q.silent = 0
		} else {
			q.chain[i].Signaled = 0
		}
	}
	taken, err := q.poster.Post(q.qp, q.chain[:n], q.targets)
	q.head += uint32(taken)
	q.poller.inWork.Add(int64(taken))
	return err
}

// ended takes the requests before sequence off the ring as read, and the one at sequence with err.
func (q *queue) ended(sequence uint32, err error) {
	n := sequence + 1 - q.tail
	for ; q.tail != sequence; q.tail++ {
		q.conn.pieceEnded(q.at(q.tail), nil)
	}
	q.conn.pieceEnded(q.at(sequence), err)
	q.tail++
	q.poller.inWork.Add(-int64(n))
}

// giveUp ends all requests under way with err. The queue pair is gone.
func (q *queue) giveUp(err error) {
	q.poller.inWork.Add(-int64(q.underWay()))
	for ; q.tail != q.head; q.tail++ {
		q.conn.pieceEnded(q.at(q.tail), err)
	}
}
