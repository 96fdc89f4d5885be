package index

import "bytes"

const (
	// minBits: a new table has 256 homes and, with its overflow, fits one page.
	minBits = 8
	maxBits = 32
)

// Table is one shard of the names. A slot is tag<<32 | unit, 0 when empty. The slots stand in the order of their
// tags, each at its home or behind it without an empty slot between. The home is given by the top bits of the tag,
// so the order is the same at every size. Behind the homes there is an overflow, so nothing ever wraps around; its
// last slot is always empty and ends every search.
//
// A Table has no lock: Lookup, Scan, Len and Bytes need the shard's lock for reading, all else for writing.
type Table struct {
	heap  *Heap
	slots []uint64 // mapped memory
	bits  uint     // the table has 1<<bits homes
	shift uint     // home = tag >> shift
	count int
}

// NewTable makes an empty table for records of h.
func NewTable(h *Heap) (*Table, error) {
	t := &Table{heap: h}
	slots, err := t.mapSlots(minBits)
	if err != nil {
		return nil, err
	}
	t.use(slots, minBits)
	return t, nil
}

// Close unmaps the table. The records are not freed.
func (t *Table) Close() {
	if t.slots != nil {
		unmapSlots(t.slots)
		t.slots, t.count = nil, 0
	}
}

// Len is the number of keys.
func (t *Table) Len() int { return t.count }

// Bytes is the memory mapped for the table.
func (t *Table) Bytes() int64 { return int64(slotBytes(t.bits)) }

// Lookup returns the unit of the record with this key, 0 when there is none. tag is Tag(Hash(key)).
func (t *Table) Lookup(tag uint32, key []byte) uint32 {
	for slots := t.slots[tag>>t.shift:]; len(slots) > 0; slots = slots[1:] {
		s := slots[0]
		if uint32(s>>32) == tag && s != 0 {
			if bytes.Equal(t.heap.Key(uint32(s)), key) {
				return uint32(s)
			}
		} else if s == 0 || uint32(s>>32) > tag {
			return 0
		}
	}
	return 0
}

// Reserve makes room for one more key, so that the next Insert cannot fail. On an error (a MemoryError) nothing has
// changed.
func (t *Table) Reserve() error {
	// The slot before the last, when empty, proves that a run of any length can be shifted by one.
	last := len(t.slots) - 2
	homes := 1 << t.bits
	if t.count < homes-homes/4 && t.slots[last] == 0 {
		return nil
	}
	return t.rebuild(t.bits + 1)
}

// Insert adds a key that is known to be absent. It fails only when it has to grow the table and cannot, which
// Reserve rules out beforehand.
func (t *Table) Insert(tag, unit uint32) error {
	if err := t.Reserve(); err != nil {
		return err
	}
	at := int(tag >> t.shift)
	for t.slots[at] != 0 && uint32(t.slots[at]>>32) <= tag {
		at++
	}
	end := at
	for t.slots[end] != 0 {
		end++
	}
	copy(t.slots[at+1:end+1], t.slots[at:end])
	t.slots[at] = uint64(tag)<<32 | uint64(unit)
	t.count++
	return nil
}

// Swap puts another record in the place of one. It says whether the old one was there.
func (t *Table) Swap(tag, oldUnit, newUnit uint32) bool {
	at := t.find(tag, oldUnit)
	if at < 0 {
		return false
	}
	t.slots[at] = uint64(tag)<<32 | uint64(newUnit)
	return true
}

// Delete removes the slot of a record. It says whether it was there.
func (t *Table) Delete(tag, unit uint32) bool {
	at := t.find(tag, unit)
	if at < 0 {
		return false
	}
	// What follows moves up, until a slot is empty or its owner at home.
	end := at + 1
	for s := t.slots[end]; s != 0 && int(uint32(s>>32)>>t.shift) < end; s = t.slots[end] {
		end++
	}
	copy(t.slots[at:end-1], t.slots[at+1:end])
	t.slots[end-1] = 0
	t.count--
	return true
}

// Trim makes a table smaller that is nearly empty. On an error (a MemoryError) nothing has changed.
func (t *Table) Trim() error {
	bits := uint(minBits)
	for t.count > 1<<bits/2 {
		bits++
	}
	if bits >= t.bits {
		return nil
	}
	return t.rebuild(bits)
}

func (t *Table) find(tag, unit uint32) int {
	want := uint64(tag)<<32 | uint64(unit)
	for at := int(tag >> t.shift); t.slots[at] != 0 && uint32(t.slots[at]>>32) <= tag; at++ {
		if t.slots[at] == want {
			return at
		}
	}
	return -1
}

func (t *Table) use(slots []uint64, bits uint) {
	t.slots, t.bits, t.shift = slots, bits, 32-bits
}

// rebuild moves the keys to a table of at least 1<<bits homes. Both are in the same order: one pass, each slot goes
// to its home or right behind its predecessor.
func (t *Table) rebuild(bits uint) error {
	for {
		slots, err := t.mapSlots(bits)
		if err != nil {
			return err
		}
		if fill(slots, t.slots, 32-bits) {
			unmapSlots(t.slots)
			t.use(slots, bits)
			return nil
		}
		unmapSlots(slots) // so many equal tags that the overflow is too short
		bits++
	}
}

// fill says whether all keys found a place with one slot to spare before the last.
func fill(to, from []uint64, shift uint) bool {
	next := 0
	for _, s := range from {
		if s == 0 {
			continue
		}
		next = max(next, int(uint32(s>>32)>>shift))
		if next >= len(to)-2 {
			return false
		}
		to[next] = s
		next++
	}
	return true
}

// slotCount: for tags that are spread evenly a run over the end longer than 60 is out of the question; the share
// of 1/64 is for those that are not.
func slotCount(bits uint) int {
	homes := 1 << bits
	return homes + max(homes/64, 128)
}

func slotBytes(bits uint) int {
	return (slotCount(bits)*8 + pageBytes - 1) &^ (pageBytes - 1)
}
