package arena

import "math"

// HugePages says whether a region is to have 2 MiB pages.
type HugePages uint8

const (
	// HugePagesAuto takes ordinary pages, and gathers them into huge ones where
	// memory is made ready ahead of its use: see [Region.Populate].
	HugePagesAuto HugePages = iota
	// HugePagesTry takes ordinary pages when huge ones are not to be had;
	// [Region.HugePages] says which it got.
	HugePagesTry
	// HugePagesRequire fails with ErrHugePages when there are not enough.
	HugePagesRequire
	// HugePagesOff takes ordinary pages and leaves them so.
	HugePagesOff
)

// Prefault says when the pages of a region are touched.
type Prefault uint8

const (
	// PrefaultNone leaves it to the first use.
	PrefaultNone Prefault = iota
	// PrefaultBackground touches them in a goroutine that Close stops.
	PrefaultBackground
	// PrefaultOpen touches them all before Open returns.
	PrefaultOpen
)

// Options say what an arena is to be. The zero value is a good start.
type Options struct {
	// Size is the capacity in bytes, rounded up to whole pages; 0 means
	// DefaultCapacity.
	Size      uint64
	HugePages HugePages
	Prefault  Prefault
	// Tracker learns of the mappings; nil means nobody does.
	Tracker Tracker
	// TrimGuard, when set, is asked before a stretch of free pages is given
	// back: n bytes at off, at most 64 MiB and never across a multiple of
	// 64 MiB. When ok is false the stretch stays as it is. Otherwise the
	// guard keeps it from being registered with a device until done is
	// called: a device goes on using the old pages after a punch, without an
	// error, while the program sees new ones.
	TrimGuard func(off, n uint64) (done func(), ok bool)
}

func (o Options) check() error {
	if o.Size > math.MaxInt64-hugePage {
		return failf("options", ErrOption, "size %d", o.Size)
	}
	if o.HugePages > HugePagesOff {
		return failf("options", ErrOption, "huge pages %d", o.HugePages)
	}
	if o.Prefault > PrefaultOpen {
		return failf("options", ErrOption, "prefault %d", o.Prefault)
	}
	return nil
}

func (o Options) size() uint64 {
	if o.Size == 0 {
		return DefaultCapacity()
	}
	return o.Size
}

func (o Options) tracker() Tracker {
	if o.Tracker == nil {
		return new(untracked)
	}
	return o.Tracker
}
