package journal

import "errors"

var (
	// ErrForeign says that a file is not one of ours, or of another tier.
	ErrForeign = errors.New("not a file of this tier")
	// ErrNewer says that a file has a format that a newer version made.
	ErrNewer = errors.New("the format is newer than this version of moorage")
	// ErrHeader says that both copies of a header are damaged.
	ErrHeader = errors.New("the header is damaged")
	// ErrBroken says that a sync has failed: what was written since the one before may be lost, and nothing can be promised any
	// more until the directory is opened again.
	ErrBroken = errors.New("a sync has failed; open the directory again")
	// ErrTooLong says that a body is longer than MaxBody.
	ErrTooLong = errors.New("record too long")
)
