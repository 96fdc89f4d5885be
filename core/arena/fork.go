package arena

import "sync"

// Mapping is what a fork or fault handler must know of a region.
type Mapping struct {
	// FD is the memfd behind the mappings.
	FD int
	// Addr is the read-write mapping, Reader the PROT_READ one. Park is
	// writable, too, and nobody's: a child must take it down. 0 if there is
	// none. All are Len bytes long.
	Addr, Reader, Park, Len uintptr
	// Huge says that the pages are hugetlb pages: a private mapping of them
	// may fail or fault, so a child has to make do with a read-only one.
	Huge bool
}

// Tracker keeps the list of mappings that exist. A region calls Add after it
// has mapped, and Remove before it unmaps, both between Lock and Unlock, and
// unmaps before Unlock. Whoever holds the lock over a fork therefore sees a
// list in which every entry is mapped and from which no mapping is missing.
type Tracker interface {
	Lock()
	Unlock()
	// Add takes up m; an error makes the opening of the region fail.
	Add(m Mapping) error
	Remove(m Mapping)
}

// untracked is the Tracker of a process without fork handlers.
type untracked struct{ sync.Mutex }

func (*untracked) Add(Mapping) error { return nil }
func (*untracked) Remove(Mapping)    {}
