package core

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"moorage/core/evict"
	"moorage/core/index"
	"moorage/core/tensor"
)

// sets keeps atomic sets whole. A set is published under lock, one shard after the other, so that whoever wants nothing
// but one object waits for a shard at most; snapshots and batch reads hold lock for reading. Nobody copies under it.
type sets struct {
	lock sync.RWMutex

	mu    sync.Mutex
	scans []*scan // at work; changed under lock for reading
}

// Item is one object of a set: a tensor, or the concatenation of parts.
type Item struct {
	Key    []byte
	Tensor *tensor.Source
	Parts  []Part
}

// PutSet stores copies of all items, whose names appear at one moment: a snapshot or a batch read sees the whole set or
// nothing of it. Views of a single object are not held up by it. A key that comes twice is ErrInvalid. After an error
// nothing has changed, but for objects that were evicted. results may be nil, or has room for each item.
func (s *Store) PutSet(items []Item, o PutOptions, results []PutResult) error {
	const op = "put set"
	gate := s.anyShard()
	if !gate.enter(s) {
		return fail(op, ErrClosed)
	}
	defer gate.leave()
	set := newSet(s, op, o, len(items))
	defer set.drop()
	if err := set.fits(items); err != nil {
		return err
	}
	for i := range items {
		if err := set.fill(&items[i]); err != nil {
			return err
		}
	}
	if _, err := set.publish(); err != nil {
		return err
	}
	for i := range set.members {
		if results != nil {
			results[i] = set.members[i].r
		}
	}
	return nil
}

// set is objects on their way in together. What was not published belongs to it; end it with drop.
type set struct {
	s       *Store
	op      string
	o       PutOptions
	members []member
	locked  []*shard // by publish
}

type member struct {
	draft // unit 0: kept, dropped or published
	p     at
	key   []byte
	bytes uint64
	old   uint32 // lost its name to this one, and still has its count
	r     PutResult
}

func newSet(s *Store, op string, o PutOptions, n int) *set {
	return &set{s: s, op: op, o: o, members: make([]member, 0, n)}
}

// fits refuses a set that cannot fit at all before anything is evicted for it.
func (x *set) fits(items []Item) error {
	var total uint64
	for i := range items {
		n, err := items[i].size()
		if err != nil {
			return failf(x.op, ErrInvalid, "key %q: %w", items[i].Key, err)
		}
		if total += n; total < n || total > maxObject {
			return failf(x.op, ErrInvalid, "the set is larger than memory can be")
		}
	}
	if total > x.s.opts.Capacity {
		return fail(x.op, x.s.capacityError(total))
	}
	return nil
}

func (i *Item) size() (size uint64, err error) {
	if i.Tensor != nil {
		plan, err := tensor.NewPlan(*i.Tensor)
		if err != nil {
			return 0, err
		}
		return plan.Bytes(), nil
	}
	for _, p := range i.Parts {
		if size += p.Size; size < p.Size || size > maxObject {
			return 0, ErrInvalid
		}
	}
	return size, nil
}

func (x *set) fill(i *Item) error {
	if i.Tensor != nil {
		plan, err := tensor.NewPlan(*i.Tensor)
		if err != nil {
			return failTensor(x.op, err)
		}
		var v index.Content
		if !x.o.AsBytes {
			v = contentOf(i.Tensor.DType, i.Tensor.Shape)
		}
		to, err := x.add(i.Key, plan.Bytes(), v)
		if err == nil && to != 0 && !x.s.gather(&plan, to) {
			err = fail(x.op, ErrCancelled)
		}
		return err
	}
	size, _ := i.size()
	to, err := x.add(i.Key, size, index.Content{})
	for n := 0; err == nil && to != 0 && n < len(i.Parts); n++ {
		if !x.s.copy(to, i.Parts[n].Addr, uintptr(i.Parts[n].Size)) {
			err = fail(x.op, ErrCancelled)
		}
		to += uintptr(i.Parts[n].Size)
	}
	return err
}

// add makes room for one object and gives the address to fill, 0 when the key is taken and kept.
func (x *set) add(key []byte, size uint64, v index.Content) (uintptr, error) {
	s := x.s
	v.Key, v.Meta = key, x.o.Meta
	body, err := index.BodyBytes(len(key), len(v.Shape), len(v.Meta))
	if err != nil {
		return 0, failf(x.op, ErrInvalid, "%w", err)
	}
	m := member{p: s.at(key), key: key, bytes: size}
	if m.r, err = s.seeExisting(x.op, m.p, key, x.o); err != nil {
		return 0, err
	}
	if m.r.Outcome != Kept {
		if m.draft, err = s.draft(x.op, m.p, size, body, false); err != nil {
			return 0, err
		}
	}
	x.members = append(x.members, m)
	if m.r.Outcome == Kept {
		return 0, nil
	}
	if err := s.heap.WriteBody(m.c.Body, v); err != nil {
		return 0, failf(x.op, ErrInvalid, "%w", err)
	}
	return s.arena.WriterAddr(m.c.Off), nil
}

// drop gives back what was not published.
func (x *set) drop() {
	for i := range x.members {
		if m := &x.members[i]; m.unit != 0 {
			x.s.drop(m.draft)
			m.unit = 0
		}
	}
}

// publish gives all objects their names and says how many. After an error nothing has changed.
func (x *set) publish() (stored int, err error) {
	order, err := x.sort()
	if err != nil {
		return 0, err
	}
	if stored, err = x.link(order); err != nil {
		return 0, err
	}
	for i := range x.members {
		m := &x.members[i]
		if m.unit == 0 {
			continue
		}
		if m.old != 0 {
			x.s.unlinked(m.old)
		}
		x.s.policy.added(m.candidate())
		x.s.waits.published(m.key)
		m.unit = 0 // the name's, not ours
	}
	return stored, nil
}

// sort gives the members in the order of their shards.
func (x *set) sort() ([]*member, error) {
	order := make([]*member, len(x.members))
	for i := range order {
		order[i] = &x.members[i]
	}
	slices.SortFunc(order, func(a, b *member) int {
		return cmp.Or(cmp.Compare(index.Shard(a.p.hash), index.Shard(b.p.hash)), cmp.Compare(a.p.hash, b.p.hash))
	})
	for i, m := range order {
		for n := i + 1; n < len(order) && order[n].p.hash == m.p.hash; n++ {
			if bytes.Equal(m.key, order[n].key) {
				return nil, failf(x.op, ErrInvalid, "key %q comes twice in one set", m.key)
			}
		}
	}
	return order, nil
}

// link publishes under the lock of the sets. With Raise all shards of the set are locked together: between the look at
// the last name and the first object nobody may take one of them.
func (x *set) link(order []*member) (stored int, err error) {
	s := x.s
	s.sets.lock.Lock()
	defer s.sets.lock.Unlock()
	defer x.unlock()
	if x.o.IfExists == Raise {
		for _, m := range order {
			x.lock(m.p.shard)
		}
		for _, m := range order {
			if _, err := s.existing(x.op, m.p, m.key, x.o); err != nil {
				return 0, err
			}
		}
	}
	for i, m := range order {
		if m.unit == 0 { // seen to be there, when it was added
			continue
		}
		if x.o.IfExists != Raise && !slices.Contains(x.locked, m.p.shard) {
			x.unlock()
		}
		x.lock(m.p.shard)
		m.c.Begin(s.words)
		if m.r, m.old, err = s.link(x.op, m.p, m.key, m.draft, x.o, nil); err != nil {
			x.undo(order[:i])
			return 0, err
		}
		if m.r.Outcome == Kept {
			s.drop(m.draft)
			m.unit = 0
			continue
		}
		stored++
		s.sets.note(m.key)
	}
	return stored, nil
}

func (m *member) candidate() evict.Candidate {
	return evictCandidate(m.unit, m.r.Seq, m.bytes, m.p.hash)
}

func (x *set) lock(p *shard) {
	if !slices.Contains(x.locked, p) {
		p.mu.Lock()
		x.locked = append(x.locked, p)
	}
}

func (x *set) unlock() {
	for _, p := range x.locked {
		p.mu.Unlock()
	}
	x.locked = x.locked[:0]
}

// undo takes names away again that were given. Who replaced or removed one of them meanwhile came after us, and what we
// had replaced goes then.
func (x *set) undo(published []*member) {
	s := x.s
	x.unlock()
	for _, m := range published {
		if m.unit == 0 {
			continue
		}
		p := m.p
		p.mu.Lock()
		mine := p.table.Lookup(p.tag, m.key) == m.unit
		switch {
		case !mine:
		case m.old != 0:
			s.heap.BodyAt(s.heap.At(m.old).Body).Pinned = 0
			s.inherit(p, m.unit, m.old)
			p.table.Swap(p.tag, m.unit, m.old)
		default:
			p.table.Delete(p.tag, m.unit)
			s.countRemoved(p.shard, m.unit)
		}
		p.count.puts--
		p.mu.Unlock()
		if mine {
			s.kill(m.unit) // the policy has not heard of it
		} else {
			s.policy.added(m.candidate()) // and it has heard that it was removed
			if m.old != 0 {
				s.unlinked(m.old)
			}
		}
		m.unit = 0
	}
}

// BetweenSets runs do while no set is being published: what it reads, it sees whole sets of. do must not put sets, and
// should be short.
func (s *Store) BetweenSets(do func()) {
	s.sets.lock.RLock()
	defer s.sets.lock.RUnlock()
	do()
}
