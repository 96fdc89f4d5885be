package registry

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// ranges is a set of address ranges, which may overlap, nest and be equal, with a value each. Whether one of them contains
// a given range is found without a lock: two binary searches in what is never written to again.
//
// The ranges stand in the order of their starts, cut into chunks. Beside each stands how far it and those before it in
// the chunk reach at most, and which one it is that does; beside each chunk the same for it and all chunks before. Of
// all ranges that start at or before an address, the one that reaches farthest contains what any contains.
type ranges[T any] struct {
	root atomic.Pointer[root[T]]

	mu sync.Mutex // who changes the set
}

const (
	chunkMax = 256 // entries; a change copies one chunk, and four words for each chunk
	block    = 16  // entries of a chunk that its index has one word for
)

type root[T any] struct {
	starts []uintptr // of each chunk's first range
	reach  []uintptr
	best   []T
	chunks []*chunk[T]
	count  int
}

type chunk[T any] struct {
	index [chunkMax / block]uintptr // start of the first range of each block; the highest address where there is none
	keys  []key
	best  []T
	all   []entry[T]
}

// key is what a look-up compares: both on one line of the cache.
type key struct{ start, reach uintptr }

type entry[T any] struct {
	start, end uintptr
	id         uint64
	value      T
}

func (e entry[T]) before(start uintptr, id uint64) bool {
	return e.start < start || e.start == start && e.id < id
}

// last is the index of the last range that starts at or before an address. The first does.
func (c *chunk[T]) last(start uintptr) int {
	at := -block
	for _, first := range &c.index {
		at += block & -atMost(first, start)
	}
	for n := min(len(c.keys)-at, block); n > 1; {
		half := n / 2
		at += half & -atMost(c.keys[at+half].start, start)
		n -= half
	}
	return at
}

// lastAtMost is the index of the last of some rising numbers that is no more than x. The first is.
func lastAtMost(a []uintptr, x uintptr) int {
	at := 0
	for n := len(a); n > 1; {
		half := n / 2
		at += half & -atMost(a[at+half], x)
		n -= half
	}
	return at
}

// atMost is 1 or 0, without a branch: half of those of a search would be predicted wrong.
func atMost(a, x uintptr) (one int) {
	if a <= x {
		one = 1
	}
	return one
}

// find gives a range that contains start … end.
func (r *ranges[T]) find(start, end uintptr) (value T, ok bool) {
	t := r.root.Load()
	if t == nil || len(t.starts) == 0 || t.starts[0] > start {
		return value, false
	}
	i := lastAtMost(t.starts, start)
	c := t.chunks[i]
	if j := c.last(start); c.keys[j].reach >= end {
		return c.best[j], true
	}
	if i > 0 && t.reach[i-1] >= end {
		return t.best[i-1], true
	}
	return value, false
}

// overlapping visits the ranges that have bytes of start … end, the last first, until visit returns false.
func (r *ranges[T]) overlapping(start, end uintptr, visit func(from, to uintptr) bool) {
	t := r.root.Load()
	if t == nil || len(t.starts) == 0 || t.starts[0] >= end {
		return
	}
	for i := lastAtMost(t.starts, end-1); i >= 0 && t.reach[i] > start; i-- {
		c := t.chunks[i]
		for j := c.last(end - 1); j >= 0 && c.keys[j].reach > start; j-- {
			if e := c.all[j]; e.end > start && !visit(e.start, e.end) {
				return
			}
		}
	}
}

// each visits all of them as they are now.
func (r *ranges[T]) each(visit func(T)) {
	if t := r.root.Load(); t != nil {
		for _, c := range t.chunks {
			for _, e := range c.all {
				visit(e.value)
			}
		}
	}
}

func (r *ranges[T]) len() int {
	if t := r.root.Load(); t != nil {
		return t.count
	}
	return 0
}

// insert adds a range. No two have the same id.
func (r *ranges[T]) insert(e entry[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.root.Load()
	if t == nil {
		t = new(root[T])
	}
	i := t.chunkOf(e.start, e.id)
	if i < 0 {
		i = 0
	}
	var all []entry[T]
	if len(t.chunks) > 0 {
		all = t.chunks[i].all
	}
	j := sort.Search(len(all), func(k int) bool { return !all[k].before(e.start, e.id) })
	r.root.Store(t.with(i, slices.Insert(slices.Clip(all), j, e), t.count+1))
}

// remove takes a range out again.
func (r *ranges[T]) remove(start uintptr, id uint64) (found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.root.Load()
	if t == nil {
		return false
	}
	i := t.chunkOf(start, id)
	if i < 0 {
		return false
	}
	all := t.chunks[i].all
	j := sort.Search(len(all), func(k int) bool { return !all[k].before(start, id) })
	if j == len(all) || all[j].start != start || all[j].id != id {
		return false
	}
	rest := make([]entry[T], 0, len(all)-1)
	r.root.Store(t.with(i, append(append(rest, all[:j]...), all[j+1:]...), t.count-1))
	return true
}

// chunkOf is the chunk in which a range belongs; -1: before the first.
func (t *root[T]) chunkOf(start uintptr, id uint64) int {
	return sort.Search(len(t.chunks), func(k int) bool {
		first := t.chunks[k].all[0]
		return !first.before(start, id) && (first.start != start || first.id != id)
	}) - 1
}

// with is the set with other ranges in the place of chunk i.
func (t *root[T]) with(i int, all []entry[T], count int) *root[T] {
	var put []*chunk[T]
	switch {
	case len(all) > chunkMax:
		half := len(all) / 2
		put = []*chunk[T]{newChunk(all[:half:half]), newChunk(all[half:])}
	case len(all) > 0:
		put = []*chunk[T]{newChunk(all)}
	}
	n := &root[T]{chunks: make([]*chunk[T], 0, len(t.chunks)+1), count: count}
	n.chunks = append(n.chunks, t.chunks[:i]...)
	n.chunks = append(n.chunks, put...)
	if i < len(t.chunks) {
		n.chunks = append(n.chunks, t.chunks[i+1:]...)
	}
	n.starts, n.reach = make([]uintptr, len(n.chunks)), make([]uintptr, len(n.chunks))
	n.best = make([]T, len(n.chunks))
	for k, c := range n.chunks {
		last := len(c.all) - 1
		n.starts[k], n.reach[k], n.best[k] = c.keys[0].start, c.keys[last].reach, c.best[last]
		if k > 0 && n.reach[k-1] > n.reach[k] {
			n.reach[k], n.best[k] = n.reach[k-1], n.best[k-1]
		}
	}
	return n
}

func newChunk[T any](all []entry[T]) *chunk[T] {
	c := &chunk[T]{keys: make([]key, len(all)), best: make([]T, len(all)), all: all}
	for k := range c.index {
		c.index[k] = ^uintptr(0)
	}
	for k, e := range all {
		if k%block == 0 {
			c.index[k/block] = e.start
		}
		c.keys[k], c.best[k] = key{e.start, e.end}, e.value
		if k > 0 && c.keys[k-1].reach > e.end {
			c.keys[k].reach, c.best[k] = c.keys[k-1].reach, c.best[k-1]
		}
	}
	return c
}
