package file

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked says that somebody else owns the directory. A LockedError has who.
	ErrLocked = errors.New("the directory is in use")
	// ErrUnsupported says that the file system cannot do it.
	ErrUnsupported = errors.New("not supported by the file system")
	// ErrNoSpace says that the file system is full, or a quota used up.
	ErrNoSpace = errors.New("no space left on the device")
	// ErrReadOnly says that nothing can be written there.
	ErrReadOnly = errors.New("the file system is read-only")
	// ErrSystem says that the kernel refused; the errno is in the chain.
	ErrSystem = errors.New("a system call failed")
	// ErrName says that a name is not one of a file in the directory itself.
	ErrName = errors.New("not a plain file name")
)

// Error is what failed, where, and why.
type Error struct {
	Op   string
	Path string
	Err  error
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap gives the cause: a sentinel of this package, and the errno behind it.
func (e *Error) Unwrap() error { return e.Err }

// LockedError is an ErrLocked.
type LockedError struct {
	Dir string
	PID int // of the owner; 0 when it is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v: %s belongs to another process; close the store there, or take another directory", ErrLocked, e.Dir)
	}
	return fmt.Sprintf("%v: %s belongs to process %d; close the store there, or take another directory", ErrLocked, e.Dir, e.PID)
}

// Unwrap makes it an ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }
