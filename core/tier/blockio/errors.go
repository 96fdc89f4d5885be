package blockio

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed says that the engine was closed.
	ErrClosed = errors.New("the engine is closed")
	// ErrDropped says that a segment was dropped.
	ErrDropped = errors.New("the segment was dropped")
	// ErrInvalid says that a request is not what an engine can do; nothing of it was begun.
	ErrInvalid = errors.New("invalid request")
	// ErrShort says that a file ended before a piece did, or took less of it.
	ErrShort = errors.New("the file is shorter than what was asked of it")
)

// Error is what failed and why. Op names the step.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "block I/O: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause: a sentinel of this package, an errno, what a File said, or why a context ended.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, err error) error { return &Error{Op: op, Err: err} }

func invalid(format string, args ...any) error {
	return fail("request", fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
}
