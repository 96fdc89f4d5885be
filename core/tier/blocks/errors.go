package blocks

import "errors"

var (
	// ErrNoSegment says that a run is in a segment that is not there.
	ErrNoSegment = errors.New("no such segment")
	// ErrOutside says that a run is empty, or goes beyond the end of its segment.
	ErrOutside = errors.New("blocks outside of the segment")
	// ErrTaken says that blocks are in use already.
	ErrTaken = errors.New("blocks have two owners")
)
