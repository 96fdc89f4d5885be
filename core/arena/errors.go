package arena

import (
	"errors"
	"fmt"
)

var (
	// ErrNoSpace says that no free extent is long enough. Memory may be free
	// in smaller pieces; the text says how long the longest is.
	ErrNoSpace = errors.New("no free extent is long enough")
	// ErrMemoryLimit says that the pages asked for have never been touched and
	// that touching them would pass the memory limit of the control group or
	// of the machine, which ends in a kill and not in an error.
	ErrMemoryLimit = errors.New("touching fresh memory would pass the memory limit of this process")
	// ErrMetadata says that the bookkeeping could not grow.
	ErrMetadata = errors.New("no memory for the extent table")
	// ErrBadBlock says that a block is not one that was handed out and not
	// yet freed.
	ErrBadBlock = errors.New("not an allocated extent")
	// ErrHugePages says that huge pages were required and are not to be had.
	ErrHugePages = errors.New("huge pages are not available")
	// ErrNoPopulate says that this kernel cannot fill page tables ahead of
	// use (MADV_POPULATE_WRITE, Linux 5.14).
	ErrNoPopulate = errors.New("this kernel cannot prefault (MADV_POPULATE_WRITE needs Linux 5.14)")
	// ErrRange says that offset and length do not lie in the region.
	ErrRange = errors.New("range is not inside the region")
	// ErrOption says that an option has no meaning.
	ErrOption = errors.New("invalid option")
	// ErrClosed says that the region or allocator was closed.
	ErrClosed = errors.New("arena is closed")
)

// Error is what failed and why. Op names the system call or the step.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "arena: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause, a sentinel of this package or an errno.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps err with the step it happened in; nil stays nil.
func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Err: err}
}

func failf(op string, err error, format string, args ...any) error {
	return &Error{Op: op, Err: fmt.Errorf("%w: "+format, append([]any{err}, args...)...)}
}
