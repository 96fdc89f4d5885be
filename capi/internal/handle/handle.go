// Package handle gives out the 64-bit ids by which C holds Go objects.
//
// An id is {kind, serial, slot}. A serial is used once in the life of the process, so an id is never reused: a stale
// one, one of another kind and a made-up one are told apart from a good one by a single comparison. A Table is safe
// for concurrent use; Get takes no lock.
package handle

import (
	"errors"
	"sync"
	"sync/atomic"
)

const (
	slotBits   = 20
	serialBits = 36
	maxSlots   = 1 << slotBits
	maxSerial  = 1 << serialBits
)

// ErrFull says that a million objects of the kind are open, or that all serials were used.
var ErrFull = errors.New("too many open handles")

// Table holds the objects of one kind.
type Table[T any] struct {
	kind  uint64
	slots atomic.Pointer[[]atomic.Pointer[entry[T]]]

	mu     sync.Mutex
	serial uint64
	free   []uint32
	live   int
}

type entry[T any] struct {
	id    uint64
	value T
}

// NewTable makes a table for a kind from 1 to 255.
func NewTable[T any](kind uint8) *Table[T] {
	t := &Table[T]{kind: uint64(kind) << (slotBits + serialBits)}
	t.slots.Store(new([]atomic.Pointer[entry[T]]))
	return t
}

// Add takes an object up and gives its id, which is never 0.
func (t *Table[T]) Add(value T) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.serial+1 == maxSerial {
		return 0, ErrFull
	}
	slot, err := t.slot()
	if err != nil {
		return 0, err
	}
	t.serial++
	id := t.kind | t.serial<<slotBits | uint64(slot)
	(*t.slots.Load())[slot].Store(&entry[T]{id, value})
	t.live++
	return id, nil
}

// slot gives a free slot. mu is locked.
func (t *Table[T]) slot() (uint32, error) {
	if n := len(t.free); n > 0 {
		slot := t.free[n-1]
		t.free = t.free[:n-1]
		return slot, nil
	}
	old := *t.slots.Load()
	if len(old) == maxSlots {
		return 0, ErrFull
	}
	grown := make([]atomic.Pointer[entry[T]], max(2*len(old), 16))
	for i := range old {
		grown[i].Store(old[i].Load())
	}
	for i := len(grown) - 1; i > len(old); i-- {
		t.free = append(t.free, uint32(i))
	}
	t.slots.Store(&grown)
	return uint32(len(old)), nil
}

// Get gives the object of an id.
func (t *Table[T]) Get(id uint64) (value T, ok bool) {
	slots := *t.slots.Load()
	if slot := id & (maxSlots - 1); slot < uint64(len(slots)) {
		if e := slots[slot].Load(); e != nil && e.id == id {
			return e.value, true
		}
	}
	return value, false
}

// Remove ends an id and gives its object to exactly one caller.
func (t *Table[T]) Remove(id uint64) (value T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	value, ok = t.Get(id)
	if ok {
		slot := uint32(id & (maxSlots - 1))
		(*t.slots.Load())[slot].Store(nil)
		t.free = append(t.free, slot)
		t.live--
	}
	return value, ok
}

// Len is how many objects are open.
func (t *Table[T]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}
