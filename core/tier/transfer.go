package tier

import (
	"moorage/core/registry"
	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/crc32c"
)

// Memory is where an object's bytes come from or go to. The caller keeps it there.
type Memory struct {
	Addr uintptr
	// Room is how many bytes from Addr on a read may write to: with room up to the next block the last one needs no copy.
	// Less than what is read counts as just that.
	Room uint64
	// Parts are the registered memory from Addr on, in order and without gaps, as registry.Acquire gives it; nil: it is not
	// registered.
	Parts []registry.Piece
}

// bounceBelow is the size from which memory is read and written in place. Below, one copy costs less.
const bounceBelow = 32 << 10

// IO is what a read or a write did. Times.First and Last are its device time; an operation in several steps has as device time
// the sum of its steps, counted back from Last.
type IO struct {
	blockio.Times
	Verify           int64  // ns of host time for checksums, after Last
	VerifyOverlapped int64  // ns of checksums while the device was busy
	Copy             int64  // ns of copies between a bounce slot and the memory
	Bounced          uint64 // bytes that were copied
	Verified         bool   // all that was read was compared with its checksum
	Mapped           bool   // through a mapping; First to Last is the time of touching its pages
}

// step adds what one request did.
func (io *IO) step(t blockio.Times) {
	if t.Last == 0 || t.First == 0 {
		return
	}
	if io.Last == 0 {
		io.Times = t
		return
	}
	device := io.Last - io.First
	path, depth := max(io.Path, t.Path), max(io.Depth, t.Depth)
	least, most := min(io.ChunkMin, t.ChunkMin), max(io.ChunkMax, t.ChunkMax)
	io.Wait, io.Submit, io.Reap = io.Wait+t.Wait, io.Submit+t.Submit, io.Reap+t.Reap
	io.Chunks, io.ChunkSum, io.Bytes = io.Chunks+t.Chunks, io.ChunkSum+t.ChunkSum, io.Bytes+t.Bytes
	io.First, io.Last = t.First-device, t.Last
	io.Path, io.Depth, io.ChunkMin, io.ChunkMax = path, depth, least, most
}

// area is a part of an object that lies in memory in one piece.
type area struct {
	from, to uint64
	addr     uintptr
}

// plan is what goes to the engine in one request, and where in the object each piece begins.
type plan struct {
	pieces []blockio.Piece
	starts []uint64
}

func (p *plan) reset() { p.pieces, p.starts = p.pieces[:0], p.starts[:0] }

// slot adds the blocks of [from, to) of an object to or from a slot.
func (p *plan) slot(d *Disk, runs []blocks.Run, from, to uint64, s slot) {
	p.blocks(d, runs, from, to, func(at uint64) (uintptr, registry.Region, uint64) {
		return s.addr + uintptr(at-from), s.region, to - at
	})
}

// memory adds the blocks of [from, to), the first of which lies off bytes behind the beginning of m.
func (p *plan) memory(d *Disk, runs []blocks.Run, from, to uint64, m *Memory, off uint64) {
	cursor := parts{list: m.Parts}
	p.blocks(d, runs, from, to, func(at uint64) (uintptr, registry.Region, uint64) {
		if m.Parts == nil {
			return m.Addr + uintptr(off+at-from), nil, to - at
		}
		return cursor.at(off + at - from)
	})
}

// blocks cuts [from, to) at the ends of runs and of pieces of memory.
func (p *plan) blocks(d *Disk, runs []blocks.Run, from, to uint64, memory func(at uint64) (uintptr, registry.Region, uint64)) {
	d.spans(runs, from, to, func(s *segment, off int64, at, n uint64) {
		for end := at + n; at < end; {
			addr, region, n := memory(at)
			n = min(n, end-at)
			p.pieces = append(p.pieces, blockio.Piece{Addr: addr, File: s.io, Off: off, Len: int(n), Buffer: region})
			p.starts = append(p.starts, at)
			at, off = at+n, off+int64(n)
		}
	})
}

// spans visits the parts of [from, to) of an object that lie in a file in one piece.
func (d *Disk) spans(runs []blocks.Run, from, to uint64, visit func(s *segment, off int64, at, n uint64)) {
	list := d.segmentList()
	start := uint64(0) // of the run
	for _, r := range runs {
		end := start + uint64(r.Count)*blocks.Size
		if at, n := max(from, start), min(to, end); at < n {
			visit(list[r.Segment], offset(r.Start)+int64(at-start), at, n-at)
		}
		if start = end; start >= to {
			return
		}
	}
}

// parts finds the registered part that an offset lies in. Offsets only grow.
type parts struct {
	list  []registry.Piece
	start uint64
}

func (p *parts) at(off uint64) (uintptr, registry.Region, uint64) {
	for len(p.list) > 1 && off >= p.start+p.list[0].Size {
		p.start += p.list[0].Size
		p.list = p.list[1:]
	}
	one := &p.list[0]
	return one.Addr + uintptr(off-p.start), one.Region, one.Size - (off - p.start)
}

// inPlace says whether memory can be given to the engine as it is, from off bytes behind its beginning on. Parts whose borders
// are not aligned are used as if they were not registered.
func (m *Memory) inPlace(off, n uint64, align int) bool {
	mask := uint64(align - 1)
	if (uint64(m.Addr)+off)&mask != 0 {
		return false
	}
	have := uint64(0)
	for i := range m.Parts {
		if uint64(m.Parts[i].Addr)&mask != uint64(m.Addr)&mask && i == 0 {
			m.Parts = nil
			return true
		}
		if have += m.Parts[i].Size; i < len(m.Parts)-1 && (uint64(m.Addr)+have)&mask != 0 {
			m.Parts = nil
			return true
		}
	}
	if m.Parts != nil && have < off+n {
		m.Parts = nil
	}
	return true
}

// checksum is that of one chunk of an object, whose bytes lie in areas.
func checksum(chunk, size uint64, areas []area) (crc uint32) {
	from, to := chunk*ChunkBytes, min((chunk+1)*ChunkBytes, size)
	for i := range areas {
		a := &areas[i]
		if start, end := max(from, a.from), min(to, a.to); start < end {
			crc = crc32c.Update(crc, bytesAt(a.addr+uintptr(start-a.from), end-start))
		}
	}
	return crc
}

func up(n uint64) uint64   { return (n + blocks.Size - 1) &^ (blocks.Size - 1) }
func down(n uint64) uint64 { return n &^ (blocks.Size - 1) }
