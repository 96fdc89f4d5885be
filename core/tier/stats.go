package tier

import (
	"context"
	"errors"
	"sync/atomic"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
)

type counters struct {
	hits, misses, removed, replaced, evicted, damaged, missed atomic.Uint64
	reads, readErrors, readBytes                              atomic.Uint64
	writes, writeErrors, writeBytes                           atomic.Uint64
	bounced, verified, cancelled, syncs, snapshots, sample    atomic.Uint64
}

// Stats are figures of a disk: what there is now, and what was done since Open.
type Stats struct {
	Objects, Resident uint64
	Bytes             uint64 // of the objects
	Capacity          uint64
	Used              uint64 // blocks of objects, in bytes; the next three as well
	Reserved          uint64 // of those being written
	Pending           uint64 // of those that are gone, and whose blocks cannot be used yet
	Free              uint64
	Segments          int
	SegmentBytes      uint64 // all files of segments
	JournalBytes      uint64 // all journals that the next Open would read

	Hits, Misses               uint64 // of Lookup
	Removed, Replaced, Evicted uint64
	Damaged                    uint64 // objects that were durable and whose bytes were wrong
	Missed                     uint64 // objects that had not been durable, and were lost with the power or the process
	Reads, ReadErrors          uint64
	ReadBytes                  uint64
	Writes, WriteErrors        uint64
	WriteBytes                 uint64
	Cancelled                  uint64
	Bounced                    uint64 // bytes that were copied through slots
	Verified                   uint64 // reads whose bytes were compared with their checksums
	Syncs                      uint64 // of segments
	Snapshots                  uint64
	Direct                     bool // past the page cache
	Engine                     blockio.Stats
}

// Stats gives them. They are not all of one moment, except that the blocks add up.
func (d *Disk) Stats() Stats {
	c := &d.count
	s := Stats{
		Capacity: d.space.capacity * blocks.Size, JournalBytes: uint64(d.filing.journalBytes(d)),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Removed: c.removed.Load(), Replaced: c.replaced.Load(),
		Evicted: c.evicted.Load(), Damaged: c.damaged.Load(), Missed: c.missed.Load(),
		Reads: c.reads.Load(), ReadErrors: c.readErrors.Load(), ReadBytes: c.readBytes.Load(),
		Writes: c.writes.Load(), WriteErrors: c.writeErrors.Load(), WriteBytes: c.writeBytes.Load(), Cancelled: c.cancelled.Load(),
		Bounced: c.bounced.Load(), Verified: c.verified.Load(), Syncs: c.syncs.Load(), Snapshots: c.snapshots.Load(),
		Direct: !d.buffered.Load(), Engine: d.engine.Stats(),
	}
	for i := range d.shards {
		p := &d.shards[i]
		p.mu.RLock()
		s.Objects += uint64(p.table.len)
		s.Resident += p.resident
		s.Bytes += p.bytes
		p.mu.RUnlock()
	}
	for _, g := range d.segmentList() {
		if g != nil {
			s.Segments++
			s.SegmentBytes += uint64(offset(g.blocks))
		}
	}
	d.space.fill(&s)
	return s
}

func (p *space) fill(s *Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Used, s.Reserved, s.Pending = p.used.Load()*blocks.Size, p.reserved.Load()*blocks.Size, p.pending.Load()*blocks.Size
	s.Free = s.Capacity - min(s.Capacity, s.Used+s.Reserved+s.Pending)
}

// counted notes what a read or a write did.
func (d *Disk) counted(io *IO, err error, write bool) {
	c := &d.count
	n, bad, bytes := &c.reads, &c.readErrors, &c.readBytes
	if write {
		n, bad, bytes = &c.writes, &c.writeErrors, &c.writeBytes
	}
	n.Add(1)
	bytes.Add(uint64(io.Bytes))
	if io.Bounced > 0 {
		c.bounced.Add(io.Bounced)
	}
	if io.Verified {
		c.verified.Add(1)
	}
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		c.cancelled.Add(1)
	default:
		bad.Add(1)
	}
}
