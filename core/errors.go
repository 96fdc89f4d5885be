package core

import (
	"errors"
	"fmt"
)

// The errors of a store. Test for them with errors.Is; the texts around them say what was asked for.
var (
	ErrClosed         = errors.New("the store is closed")
	ErrNotFound       = errors.New("no object under this key")
	ErrExists         = errors.New("the key is taken")
	ErrCapacity       = errors.New("the store is full")
	ErrMemory         = errors.New("no more memory from the system")
	ErrBusy           = errors.New("the object is in use")
	ErrHugePages      = errors.New("not enough huge pages")
	ErrAlreadyAdopted = errors.New("this reservation was committed before")
	ErrCancelled      = errors.New("cancelled because the store is being closed")
	ErrTimeout        = errors.New("the time is over")
	ErrUnsupported    = errors.New("not supported")
	ErrInvalid        = errors.New("invalid argument")
	ErrSystem         = errors.New("a system call failed")
	ErrDisk           = errors.New("the disk failed")
	ErrDamaged        = errors.New("the bytes on disk are not those that were written")

	// ErrNotResident says that only the disk has the object: Get reads it.
	ErrNotResident = errors.New("the object is on disk")
	ErrTooSmall    = errors.New("the destination is too small")
	ErrReadOnly    = errors.New("the destination is read-only")
	ErrTooMany     = errors.New("too much is waiting")
)

// Error is an error of the operation Op.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, err error) error { return &Error{Op: op, Err: err} }

func failf(op string, kind error, format string, args ...any) error {
	return &Error{Op: op, Err: fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)}
}

// CapacityError says why there was no room. It is an ErrCapacity.
type CapacityError struct {
	Want     uint64 // bytes asked for
	Capacity uint64
	Free     uint64 // free bytes, perhaps in pieces
	Largest  uint64 // the longest free piece
	Borrowed uint64 // bytes of objects and reservations that are viewed, at most 100 ms ago
	Pinned   uint64 // bytes of objects that are pinned
	Held     uint64 // bytes kept for forked children
	Evicting bool   // whether the store evicts
}

func (e *CapacityError) Error() string {
	remedy := `raise capacity, remove objects, or open the store with eviction="s3fifo"`
	if e.Evicting {
		remedy = "raise capacity, release views or unpin objects"
	}
	return fmt.Sprintf("%v: %d bytes wanted; of %d bytes %d are free (longest piece %d), %d borrowed by views, %d pinned, %d held for forked children; %s",
		ErrCapacity, e.Want, e.Capacity, e.Free, e.Largest, e.Borrowed, e.Pinned, e.Held, remedy)
}

// Unwrap makes it an ErrCapacity.
func (e *CapacityError) Unwrap() error { return ErrCapacity }
