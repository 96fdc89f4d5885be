package index

import (
	"fmt"
	"math/bits"
	"sync"

	"moorage/core/arena/cell"
)

const (
	// Stripes is the number of independent parts of a Heap. A stripe given to Alloc is taken modulo it.
	Stripes = 16

	chunkBytes = hugeBytes
	chunkShift = 16 // unit number = chunk number << chunkShift | unit in the chunk
	chunkUnits = chunkBytes / cell.Unit
	// tiledUnits of a chunk are tiled by blocks; the last unit stays out, so that a length always fits Cell.Units.
	tiledUnits = chunkUnits - 1
	maxChunks  = 1 << (32 - chunkShift)

	cellUnits = cell.Size / cell.Unit // also the smallest block: it must hold Units and Kind
	// maxUnits is the largest block ever asked for. Free blocks that are larger share one list: any of them will do.
	maxUnits = cellUnits + (maxBody+cell.Unit-1)/cell.Unit
	oversize = maxUnits + 1
	classes  = oversize + 1
)

// Heap is the record memory of a store. Safe for concurrent use; see the package comment for what that covers.
type Heap struct {
	dir     *directory
	opts    Options
	stripes [Stripes]stripe

	// mu is taken with the lock of a stripe held, never the other way round.
	mu     sync.Mutex
	chunks int // highest chunk number in use; numbers start at 1, so that no block has unit number 0
}

// stripe owns chunks and the free blocks in them.
type stripe struct {
	mu     sync.Mutex
	chunks int
	used   int // units in blocks that are handed out
	full   [(classes + 63) / 64]uint64
	free   [classes]uint32 // first free block of each length in units, 0 = none
	_      [64]byte        // keeps the lock of the next stripe off this one's last line
}

// NewHeap makes an empty heap. It maps no record memory until the first block is asked for.
func NewHeap(o Options) (*Heap, error) {
	const op = "map directory of record memory"
	if err := o.before(op, directoryBytes); err != nil {
		return nil, err
	}
	d, err := newDirectory()
	if err != nil {
		return nil, &MemoryError{Op: op, Bytes: directoryBytes, Err: err}
	}
	d.tiled, d.unit = tiledUnits, cell.Unit
	liveMappings.Add(1)
	return &Heap{dir: d, opts: o}, nil
}

// Close unmaps all record memory. No unit, pointer or slice of this heap may be used afterwards.
func (h *Heap) Close() {
	if h.dir == nil {
		return
	}
	for n := 1; n <= h.chunks; n++ {
		unmapPages(h.dir.base[n], chunkBytes)
	}
	liveMappings.Add(-int64(h.chunks) - 1)
	freeDirectory(h.dir)
	h.dir, h.chunks = nil, 0
}

// Alloc hands out a zeroed block for a cell and a body of bodyBytes (from BodyBytes) right behind it. Units, Kind and
// Body are set; Body is 0 when bodyBytes is 0, for a cell that gets its body later (AllocBody). When memory cannot be
// mapped the error is a MemoryError and nothing has changed.
func (h *Heap) Alloc(stripe int, bodyBytes int) (unit uint32, c *cell.Cell, err error) {
	unit, err = h.block(stripe, bodyBytes, cell.KindRecord)
	if err != nil {
		return 0, nil, err
	}
	c = h.At(unit)
	if bodyBytes > 0 {
		c.Body = unit + cellUnits
	}
	return unit, c, nil
}

// AllocBody hands out a zeroed block for a body alone and returns the unit of the body, to be put into Cell.Body.
func (h *Heap) AllocBody(stripe int, bodyBytes int) (body uint32, b *cell.Body, err error) {
	unit, err := h.block(stripe, bodyBytes, cell.KindBody)
	if err != nil {
		return 0, nil, err
	}
	return unit + cellUnits, h.BodyAt(unit + cellUnits), nil
}

// Free takes back the block of a record, and the block of its body when that is one of its own.
func (h *Heap) Free(unit uint32) {
	body := h.At(unit).Body
	h.release(unit) // first: a walk that is at this record holds its stripe, and with it the body in another
	if body != 0 && body != unit+cellUnits {
		h.release(body - cellUnits)
	}
}

// FreeBody takes back a body from AllocBody that no cell refers to.
func (h *Heap) FreeBody(body uint32) { h.release(body - cellUnits) }

// block finds memory in the given stripe; when the stripe cannot grow, in any other.
func (h *Heap) block(number, bodyBytes int, kind cell.Kind) (uint32, error) {
	if bodyBytes < 0 || bodyBytes > maxBody {
		return 0, fmt.Errorf("%w: %d bytes asked for, at most %d", ErrBodySize, bodyBytes, maxBody)
	}
	units := uint32(cellUnits + (bodyBytes+cell.Unit-1)/cell.Unit)
	unit, err := h.blockIn(number, units, kind, true)
	for i := 1; err != nil && i < Stripes; i++ {
		if u, e := h.blockIn(number+i, units, kind, false); e == nil {
			return u, nil
		}
	}
	return unit, err
}

func (h *Heap) blockIn(number int, units uint32, kind cell.Kind, grow bool) (uint32, error) {
	number &= Stripes - 1
	s := &h.stripes[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	unit := s.find(units)
	if unit == 0 {
		if !grow {
			return 0, ErrNoMemory
		}
		if err := h.grow(s, number); err != nil {
			return 0, err
		}
		unit = s.find(units)
	}
	c := h.At(unit)
	s.unlink(h, c)
	h.split(s, unit, c, units)
	s.used += int(c.Units)
	h.wipe(c)
	c.Kind, c.Flags = kind, 0
	return unit, nil
}

// find returns the smallest free block of at least that many units, 0 when there is none.
func (s *stripe) find(units uint32) uint32 {
	word := units / 64
	set := s.full[word] &^ (1<<(units%64) - 1)
	for set == 0 {
		if word++; int(word) == len(s.full) {
			return 0
		}
		set = s.full[word]
	}
	return s.free[word*64+uint32(bits.TrailingZeros64(set))]
}

// split cuts an unlinked free block to length and lists the rest. The rest gets its header before the block gets
// shorter, so that a walk of raw memory finds whole blocks at any moment.
func (h *Heap) split(s *stripe, unit uint32, c *cell.Cell, units uint32) {
	rest := uint32(c.Units) - units
	if rest < cellUnits {
		return
	}
	r := h.At(unit + units)
	r.Units, r.Kind, r.Before = uint16(rest), cell.KindFree, units
	if after := h.after(unit, c); after != nil {
		after.Before = rest
	}
	c.Units = uint16(units)
	s.link(h, unit+units, r)
}

// release makes a block free and merges it with free neighbours.
func (h *Heap) release(unit uint32) {
	s := &h.stripes[h.dir.owner[unit>>chunkShift]]
	s.mu.Lock()
	defer s.mu.Unlock()
	c := h.At(unit)
	if c.Kind == cell.KindFree {
		if checked {
			panic("index: block freed twice")
		}
		return
	}
	s.used -= int(c.Units)
	c.Kind = cell.KindFree
	h.poison(c, cell.Size, uintptr(c.Units)*cell.Unit)
	if n := h.after(unit, c); n != nil && n.Kind == cell.KindFree {
		s.unlink(h, n)
		c.Units += n.Units
		h.poison(n, 0, cell.Size)
	}
	if c.Before != 0 {
		if p := h.At(unit - c.Before); p.Kind == cell.KindFree {
			unit -= c.Before
			s.unlink(h, p)
			p.Units += c.Units
			h.poison(c, 0, cell.Size)
			c = p
		}
	}
	if n := h.after(unit, c); n != nil {
		n.Before = uint32(c.Units)
	}
	s.link(h, unit, c)
}

// after is the block that follows in the same chunk, nil behind the last.
func (h *Heap) after(unit uint32, c *cell.Cell) *cell.Cell {
	if end := unit&(chunkUnits-1) + uint32(c.Units); end >= tiledUnits {
		return nil
	}
	return h.At(unit + uint32(c.Units))
}

// grow maps a chunk for a stripe: one free block. Small stores have one chunk per stripe and touch little of it;
// whoever needs a second one will fill it, so that one asks for huge pages.
func (h *Heap) grow(s *stripe, number int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	const op = "map chunk of record memory"
	if h.chunks == maxChunks-1 {
		return &MemoryError{Op: op, Bytes: chunkBytes, Err: ErrExhausted}
	}
	if err := h.opts.before(op, chunkBytes); err != nil {
		return err
	}
	p, err := mapPages(chunkBytes, chunkBytes, s.chunks > 0)
	if err != nil {
		return &MemoryError{Op: op, Bytes: chunkBytes, Err: err}
	}
	liveMappings.Add(1)
	h.chunks++
	s.chunks++
	h.dir.base[h.chunks] = p
	h.dir.owner[h.chunks] = uint8(number)
	unit := uint32(h.chunks) << chunkShift
	c := h.At(unit)
	c.Units, c.Kind = tiledUnits, cell.KindFree
	h.poison(c, cell.Size, tiledUnits*cell.Unit)
	h.dir.chunks.Store(uint32(h.chunks)) // last: the chunk can be walked now
	s.link(h, unit, c)
	return nil
}

func class(c *cell.Cell) uint32 { return min(uint32(c.Units), oversize) }

// link puts a free block at the head of its list.
func (s *stripe) link(h *Heap, unit uint32, c *cell.Cell) {
	k := class(c)
	l, head := links(c), s.free[k]
	l.next, l.prev = head, 0
	if head != 0 {
		links(h.At(head)).prev = unit
	}
	s.free[k] = unit
	s.full[k/64] |= 1 << (k % 64)
}

func (s *stripe) unlink(h *Heap, c *cell.Cell) {
	k := class(c)
	l := links(c)
	if l.next != 0 {
		links(h.At(l.next)).prev = l.prev
	}
	if l.prev != 0 {
		links(h.At(l.prev)).next = l.next
		return
	}
	if s.free[k] = l.next; l.next == 0 {
		s.full[k/64] &^= 1 << (k % 64)
	}
}
