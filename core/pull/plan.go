package pull

import (
	"moorage/core/verbs"
	"moorage/rdma"
)

// plan is what has to be read to bring one window into a sink.
type plan struct {
	direct []rdma.Read // by the card, to where it belongs
	chunks []chunk     // through bounce buffers
	next   cursor      // behind the window
}

// chunk is what goes through one bounce buffer. The targets of its reads are not there yet.
type chunk struct {
	to    uintptr
	size  uint64
	reads []rdma.Read
}

// cursor is a place in the parts of a sink.
type cursor struct {
	part int
	off  uint64
}

// lay lays the bytes of a window over the parts from a place on. There are enough of them.
func lay(parts []part, at cursor, window []rdma.RemoteRegion, chunkSize uint64) *plan {
	p := &plan{next: at}
	open := false // the last chunk goes on
	for _, from := range window {
		joined := false // the last direct read is of this region, and ends where we are
		for off := uint64(0); off < from.Length; {
			to := &parts[p.next.part]
			n := min(to.Size-p.next.off, from.Length-off)
			if to.bounced {
				if !open {
					p.chunks = append(p.chunks, chunk{to: to.Addr + uintptr(p.next.off)})
				}
				c := &p.chunks[len(p.chunks)-1]
				n = min(n, chunkSize-c.size)
				c.reads = append(c.reads, rdma.Read{From: from, FromOffset: off, Length: n})
				c.size += n
				open = c.size < chunkSize && p.next.off+n < to.Size
			} else {
				if !joined {
					p.direct = append(p.direct, rdma.Read{From: from, FromOffset: off})
				}
				r := &p.direct[len(p.direct)-1]
				r.Scatter = append(r.Scatter, targets(to.at, p.next.off, n)...)
				r.Length += n
			}
			joined = !to.bounced
			off += n
			if p.next.off += n; p.next.off == to.Size {
				p.next = cursor{part: p.next.part + 1}
			}
		}
	}
	return p
}

// targets are n bytes behind the first off of some slices.
func targets(at []verbs.Slice, off, n uint64) (all []rdma.Target) {
	for _, s := range at {
		if off >= s.Length {
			off -= s.Length
			continue
		}
		if n == 0 {
			break
		}
		size := min(n, s.Length-off)
		all = append(all, rdma.Target{Region: s.Part, Offset: s.Offset + off, Length: size})
		off, n = 0, n-size
	}
	return all
}
