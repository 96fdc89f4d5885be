package faulty

import "math/rand/v2"

// inode is the bytes of a file, and how to get back to what was synced.
type inode struct {
	data []byte
	undo []write // since the last Sync, oldest first
}

// write is one change since the last sync: bytes before and after, or the length before and after.
type write struct {
	off           int64
	before, after []byte
	size          [2]int64 // before, after
}

func (n *inode) write(p []byte, off int64) {
	w := write{off: off, after: append([]byte(nil), p...), size: [2]int64{int64(len(n.data)), 0}}
	end := off + int64(len(p))
	w.size[1] = max(w.size[0], end)
	n.data = resize(n.data, w.size[1])
	w.before = append([]byte(nil), n.data[off:end]...)
	copy(n.data[off:], p)
	n.undo = append(n.undo, w)
}

func (n *inode) truncate(size int64) {
	w := write{size: [2]int64{int64(len(n.data)), size}}
	if size < w.size[0] {
		w.off = size
		w.before = append([]byte(nil), n.data[size:]...)
	}
	n.data = resize(n.data, size)
	n.undo = append(n.undo, w)
}

// copy gives the file after a crash; without r, with all that was written.
func (n *inode) copy(r *rand.Rand) *inode {
	c := &inode{data: append([]byte(nil), n.data...)}
	if r == nil {
		c.undo = append(c.undo, n.undo...)
		return c
	}
	for i := len(n.undo) - 1; i >= 0; i-- {
		w := n.undo[i]
		c.data = resize(c.data, max(w.size[0], int64(len(c.data))))
		copy(c.data[w.off:], w.before)
		c.data = resize(c.data, w.size[0])
	}
	lose := r.IntN(4) // 0: nothing gets lost in this file; 3: everything does
	order := r.Perm(len(n.undo))
	if r.IntN(2) == 0 {
		for i := range order {
			order[i] = i
		}
	}
	for _, i := range order {
		if r.IntN(3) >= lose {
			n.undo[i].again(c, r, lose > 0)
		}
	}
	return c
}

// again does a write once more, or some of its sectors.
func (w *write) again(c *inode, r *rand.Rand, torn bool) {
	if w.after == nil {
		c.data = resize(c.data, w.size[1])
		return
	}
	torn = torn && r.IntN(3) == 0
	for from := 0; from < len(w.after); {
		to := min(len(w.after), from+Sector-int((w.off+int64(from))%Sector))
		if !torn || r.IntN(2) == 0 {
			c.data = resize(c.data, max(int64(len(c.data)), w.off+int64(to)))
			copy(c.data[w.off+int64(from):], w.after[from:to])
		}
		from = to
	}
}

func resize(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		clear(b[n:])
		return b[:n]
	}
	if n <= int64(cap(b)) {
		return b[:n] // zeros: see above
	}
	grown := make([]byte, n, max(n, min(2*int64(cap(b)), n+1<<20)))
	copy(grown, b)
	return grown
}
