package core

import (
	"errors"
	"sync"
	"time"

	"moorage/core/arena/cell"
	"moorage/core/cost"
	"moorage/core/index"
	"moorage/core/registry"
)

const flagAdopted = cell.FlagAdopted

// Stats are the figures of a store. Bytes throughout.
type Stats struct {
	Capacity, Used, FreeWarm, FreeCold, LargestFree uint64
	Resident, Metadata                              uint64
	HugePages                                       bool

	Objects, PinnedObjects, PinnedBytes     uint64
	BorrowedObjects, BorrowedBytes          uint64
	HeldBytes, Children, ChildrenUnfollowed uint64
	Windows, WindowCopies                   uint64

	Puts, Gets, Misses, Removes, Evictions uint64
	Adoptions, AdoptCopies                 uint64
	CopiedIn, CopiedOut                    uint64
	Protected, LastSeq                     uint64

	Registered  registry.Stats
	Registering cost.Policy
}

// Stats looks at everything once. The figures are not of one moment. Borrowed ones cost a walk over all records.
func (s *Store) Stats() (Stats, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return Stats{}, fail("stats", ErrClosed)
	}
	defer gate.leave()
	s.drain()
	x := s.arena.Stats()
	v := Stats{
		Capacity: s.opts.Capacity, Used: x.Used, FreeWarm: x.FreeWarm, FreeCold: x.FreeCold, LargestFree: x.LargestFree,
		HugePages: s.arena.HugePages(), Metadata: uint64(s.heap.Stats().Used),
		Children: uint64(s.host.Children()),
		Windows:  s.control.Windows.Load(), WindowCopies: s.control.WindowCopies.Load(),
		CopiedIn: s.counters.copiedIn.Load(), CopiedOut: s.control.CopiedOut.Load(),
		Adoptions: s.counters.adoptions.Load(), AdoptCopies: s.counters.adoptCopies.Load(),
		Protected: uint64(s.counters.protected.Load()), LastSeq: s.seq.Load(),
		Registered: s.registry.Stats(), Registering: s.opts.Registering,
	}
	asked := s.control.Asked.Load() // before the gets, of which it is a part
	var err error
	if v.Resident, err = s.arena.Resident(); err != nil {
		return Stats{}, fail("stats", classify(err))
	}
	for i := range s.shards {
		s.shards[i].addTo(&v)
	}
	v.Gets -= asked
	v.BorrowedObjects, v.BorrowedBytes = s.borrowed()
	s.drains.mu.Lock()
	v.HeldBytes = s.drains.bytes
	s.drains.mu.Unlock()
	return v, nil
}

func (p *shard) addTo(v *Stats) {
	v.Gets += p.gets.Load()
	v.Misses += p.misses.Load()
	p.mu.RLock()
	defer p.mu.RUnlock()
	v.Objects += uint64(p.table.Len())
	v.Metadata += uint64(p.table.Bytes())
	v.Puts += p.count.puts
	v.Removes += p.count.removes
	v.Evictions += p.count.evictions
	v.PinnedObjects += p.count.pinnedObjects
	v.PinnedBytes += p.count.pinnedBytes
}

// Count is how many objects have a name, and how many views C has.
func (s *Store) Count() (objects, views uint64, err error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return 0, 0, fail("count", ErrClosed)
	}
	defer gate.leave()
	for i := range s.shards {
		p := &s.shards[i]
		p.mu.RLock()
		objects += uint64(p.table.Len())
		p.mu.RUnlock()
	}
	if s.tiered != nil {
		entries, resident := s.tiered.disk.Counts()
		objects += entries - min(entries, resident)
	}
	return objects, s.control.Views.Load(), nil
}

// Borrow is an object that somebody views, or a reservation. Key is valid during the visit.
type Borrow struct {
	Key      []byte
	Views    uint64
	Size     uint64
	Seq      uint64
	Unnamed  bool   // removed or replaced
	Reserved bool   // not committed yet
	Record   uint32 // number of its record
	Child    bool   // a forked child may read it
}

// Borrows visits what is viewed or held for a forked child, until visit returns false. visit must not call the store.
func (s *Store) Borrows(visit func(Borrow) bool) error {
	gate := s.anyShard()
	if !gate.enter(s) {
		return fail("borrows", ErrClosed)
	}
	defer gate.leave()
	s.drain()
	s.borrows(visit)
	return nil
}

// borrows walks over all records. A record is given back under the lock that the walk holds, so what it shows is there.
func (s *Store) borrows(visit func(Borrow) bool) {
	var ours map[uint32]int // views that are there to write the object to disk
	if s.tiered != nil {
		ours = s.tiered.demotions.all()
	}
	s.heap.Walk(func(unit uint32, c *cell.Cell) bool {
		b := Borrow{Record: unit, Views: c.Views(), Child: c.HeldByChild(s.words)}
		b.Views -= min(b.Views, uint64(ours[unit]))
		if b.Views == 0 && !b.Child {
			return true
		}
		if b.Reserved = c.IsOpen(); b.Reserved {
			b.Size = s.reserved.size(c) // a commit may be writing to the cell
			return visit(b)
		}
		b.Size, b.Seq, b.Unnamed = c.Bytes, c.Seq, !c.Named()
		if c.Body != 0 {
			b.Key = index.Key(s.heap.BodyAt(c.Body))
		}
		return visit(b)
	})
}

func (s *Store) borrowed() (objects, bytes uint64) {
	s.borrows(func(b Borrow) bool {
		if b.Views > 0 {
			objects++
			bytes += b.Size
		}
		return true
	})
	return objects, bytes
}

// borrowSeen keeps the last sum of borrowed bytes, so that a full store under load does not walk over all records
// for each refused put.
type borrowSeen struct {
	mu    sync.Mutex
	at    time.Time
	bytes uint64
}

const borrowAge = 100 * time.Millisecond

func (b *borrowSeen) recent(s *Store) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() || time.Since(b.at) > borrowAge {
		_, b.bytes = s.borrowed()
		b.at = time.Now()
	}
	return b.bytes
}

// Trim gives free pages back to the system, those of the bytes and those of names, and says how many bytes.
func (s *Store) Trim() (freed uint64, err error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return 0, fail("trim", ErrClosed)
	}
	defer gate.leave()
	s.drain()
	for i := range s.shards {
		p := &s.shards[i]
		p.mu.Lock()
		err = errors.Join(err, p.table.Trim())
		p.mu.Unlock()
	}
	freed = uint64(s.heap.Trim())
	bytes, trimErr := s.arena.Trim()
	freed += bytes
	if err = errors.Join(err, trimErr); err != nil {
		return freed, fail("trim", classify(err))
	}
	return freed, nil
}
