package core

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"moorage/core/evict"
	"moorage/core/index"
	"moorage/core/tensor"
	"moorage/core/tier/timing"
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
func (s *Store) PutSet(items []Item, o PutOptions, results []PutResult) (err error) {
	const op = "put set"
	gate := s.anyShard()
	if !gate.enter(s) {
		return fail(op, ErrClosed)
	}
	defer gate.leave()
	set := newSet(s, op, o, len(items))
	defer func() {
		set.drop()
		set.record(err)
	}()
	if set.o.since == 0 {
		set.o.since = timing.Now()
	}
	for i := range items {
		if err := set.wantItem(&items[i]); err != nil {
			return err
		}
	}
	if err := set.ready(); err != nil {
		return err
	}
	for i := range items {
		if err := set.fillTimed(i, &items[i]); err != nil {
			return err
		}
	}
	if _, err := set.publish(); err != nil {
		return err
	}
	if results != nil {
		for i := range set.members {
			results[i] = set.members[i].r
		}
	}
	return set.through()
}

// set is objects on their way in together: want each, be ready, add each, publish. What was not published belongs to it;
// end it with drop.
type set struct {
	s       *Store
	op      string
	o       PutOptions
	total   uint64 // bytes of all members
	members []member
	times   []timing.Record // of the members; nil without a disk, and for files
	order   []*member       // by their shards
}

type member struct {
	draft // unit 0: not added, kept, dropped or published
	p     at
	key   []byte
	bytes uint64
	body  int    // size of its record
	old   uint32 // lost its name to this one, and still has its count
	r     PutResult
}

func newSet(s *Store, op string, o PutOptions, n int) *set {
	return &set{s: s, op: op, o: o, members: make([]member, 0, n)}
}

// want says what will be added. Nothing is done for it yet.
func (x *set) want(key []byte, size uint64, dims int) error {
	body, err := index.BodyBytes(len(key), dims, len(x.o.Meta))
	if err != nil {
		return failf(x.op, ErrInvalid, "key %q: %w", key, err)
	}
	if size > maxObject || x.total+size > maxObject {
		return failf(x.op, ErrInvalid, "key %q: with %d bytes the set is too large", key, size)
	}
	x.total += size
	x.members = append(x.members, member{p: x.s.at(key), key: key, bytes: size, body: body})
	return nil
}

func (x *set) wantItem(i *Item) error {
	var size uint64
	if i.Tensor == nil {
		for n, p := range i.Parts {
			if size += p.Size; size < p.Size || size > maxObject {
				return failf(x.op, ErrInvalid, "key %q: parts[%d] with %d bytes makes the object too large", i.Key, n, p.Size)
			}
		}
		return x.want(i.Key, size, 0)
	}
	plan, err := tensor.NewPlan(*i.Tensor)
	if err != nil {
		return failTensor(x.op, fmt.Errorf("key %q: %w", i.Key, err))
	}
	dims := len(i.Tensor.Shape)
	if x.o.AsBytes {
		dims = 0
	}
	return x.want(i.Key, plan.Bytes(), dims)
}

// ready refuses a set that cannot be before anything is evicted for it.
func (x *set) ready() error {
	if x.total > x.s.opts.Capacity {
		return fail(x.op, x.s.capacityError(x.total))
	}
	return x.sort()
}

func (x *set) fill(n int, i *Item) error {
	if x.s.control.Closing.Load() != 0 {
		return fail(x.op, ErrCancelled)
	}
	if i.Tensor != nil {
		plan, err := tensor.NewPlan(*i.Tensor)
		if err != nil {
			return failTensor(x.op, err)
		}
		var v index.Content
		if !x.o.AsBytes {
			v = contentOf(i.Tensor.DType, i.Tensor.Shape)
		}
		to, err := x.add(n, v)
		if err == nil && to != 0 && !x.s.gather(&plan, to) {
			err = fail(x.op, ErrCancelled)
		}
		return err
	}
	to, err := x.add(n, index.Content{})
	if err != nil || to == 0 {
		return err
	}
	for _, p := range i.Parts {
		if !x.s.copy(to, p.Addr, uintptr(p.Size)) {
			return fail(x.op, ErrCancelled)
		}
		to += uintptr(p.Size)
	}
	return nil
}

// add makes room for a member and gives the address to fill, 0 when its key is taken and kept.
func (x *set) add(n int, v index.Content) (to uintptr, err error) {
	s, m := x.s, &x.members[n]
	if m.r, err = s.seeExisting(x.op, m.p, m.key, x.o); err != nil || m.r.Outcome == Kept {
		return 0, err
	}
	m.draft, err = s.draft(x.op, m.p, m.bytes, m.body, false)
	x.hasRoom(n)
	if err != nil {
		return 0, err
	}
	v.Key, v.Meta = m.key, x.o.Meta
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
	if stored, err = x.link(); err != nil {
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
		x.s.added(m.candidate())
		x.s.waits.published(m.key)
		if x.s.tiered != nil {
			x.s.tiered.disk.Remove(m.key, m.r.Seq-1)
		}
		m.unit = 0 // the name's, not ours
	}
	return stored, nil
}

// through is the end of putting a set that is written through.
func (x *set) through() error {
	if x.s.tiered == nil {
		return nil
	}
	errs := make([]error, len(x.members))
	each(len(errs), demoteDepth, func(i int) { errs[i] = x.s.through(x.op, x.members[i].key, x.timesOf(i)) })
	return errors.Join(errs...)
}

// sort brings the members in the order of their shards.
func (x *set) sort() error {
	x.order = make([]*member, len(x.members))
	for i := range x.order {
		x.order[i] = &x.members[i]
	}
	slices.SortFunc(x.order, func(a, b *member) int {
		return cmp.Or(cmp.Compare(index.Shard(a.p.hash), index.Shard(b.p.hash)), cmp.Compare(a.p.hash, b.p.hash))
	})
	for i, m := range x.order {
		for n := i + 1; n < len(x.order) && x.order[n].p.hash == m.p.hash; n++ {
			if bytes.Equal(m.key, x.order[n].key) {
				return failf(x.op, ErrInvalid, "key %q comes twice in one set", m.key)
			}
		}
	}
	return nil
}

// link publishes under the lock of the sets, and holds a shard for one name at a time.
func (x *set) link() (stored int, err error) {
	s := x.s
	s.sets.lock.Lock()
	defer s.sets.lock.Unlock()
	s.sets.note(x.order)
	for _, m := range x.order { // who is refused now has shown nobody anything
		if _, err := s.seeExisting(x.op, m.p, m.key, x.o); err != nil {
			return 0, err
		}
	}
	for i, m := range x.order {
		if m.unit == 0 { // seen to be there, when it was added
			continue
		}
		m.c.Begin(s.words)
		m.p.mu.Lock()
		m.r, m.old, err = s.link(x.op, m.p, m.key, m.draft, x.o, nil)
		m.p.mu.Unlock()
		if err != nil {
			x.undo(x.order[:i])
			return 0, err
		}
		if m.r.Outcome == Kept {
			s.drop(m.draft)
			m.unit = 0
			continue
		}
		stored++
	}
	return stored, nil
}

func (m *member) candidate() evict.Candidate {
	return evictCandidate(m.unit, m.r.Seq, m.bytes, m.p.hash)
}

// undo takes names away again that were given. Who replaced or removed one of them meanwhile came after us, and what we
// had replaced goes then.
func (x *set) undo(published []*member) {
	for _, m := range published {
		if m.unit == 0 {
			continue
		}
		if x.unlink(m) {
			x.s.kill(m.unit) // the policy has not heard of it
		} else {
			x.s.policy.added(m.candidate()) // and it has heard that it was removed
			if m.old != 0 {
				x.s.unlinked(m.old)
			}
		}
		m.unit = 0
	}
}

// unlink gives the name back to whom it was taken from. False: it is not ours any more. The record may be another
// object's by now, under the same key: its number tells.
func (x *set) unlink(m *member) bool {
	s, p := x.s, m.p
	p.mu.Lock()
	if p.table.Lookup(p.tag, m.key) != m.unit || m.c.Seq != m.r.Seq {
		p.mu.Unlock()
		return false
	}
	p.count.puts--
	if s.tiered != nil && s.tiered.disk.HasSeq(m.key, m.r.Seq) { // somebody has asked for it to be persistent
		s.tiered.disk.Remove(m.key, m.r.Seq)
	}
	if m.old == 0 {
		p.table.Delete(p.tag, m.unit)
		if s.heap.BodyAt(m.c.Body).Pinned != 0 {
			p.count.pin(m.bytes, false)
		}
		p.mu.Unlock()
		return true
	}
	old := s.heap.At(m.old)
	s.heap.BodyAt(old.Body).Pinned = 0
	s.inherit(p, m.unit, m.old)
	p.table.Swap(p.tag, m.unit, m.old)
	again := evictCandidate(m.old, old.Seq, old.Bytes, p.hash)
	p.mu.Unlock()
	s.policy.added(again) // it may have met it without a name, and forgotten it
	s.policy.removed()
	return true
}

// BetweenSets runs do while no set is being published: what it reads, it sees whole sets of. do must not put sets, and
// should be short.
func (s *Store) BetweenSets(do func()) {
	s.sets.lock.RLock()
	defer s.sets.lock.RUnlock()
	do()
}
