package registry

import (
	"errors"
	"fmt"
)

var (
	// ErrNotRegistered says that a range does not lie in one registration, or not all of it.
	ErrNotRegistered = errors.New("memory is not registered")
	// ErrInUse says that transfers were still in flight when the time was over.
	ErrInUse = errors.New("transfers are in flight")
	// ErrClosed says that the registry was closed, or the device detached.
	ErrClosed = errors.New("registry is closed")
	// ErrInvalid says that a range is not what can be registered.
	ErrInvalid = errors.New("memory cannot be registered")
	// ErrMemlock says that RLIMIT_MEMLOCK is too low. A MemlockError has the figures.
	ErrMemlock = errors.New("the limit of locked memory (RLIMIT_MEMLOCK) is too low")
	// ErrSystem says that a system call failed.
	ErrSystem = errors.New("a system call failed")
)

// Error is what failed and why. Op names the step.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "registry: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause: a sentinel of this package, an errno, or what a device said.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, err error) error { return &Error{Op: op, Err: err} }

func failf(op string, kind error, format string, args ...any) error {
	return &Error{Op: op, Err: fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)}
}

// MemlockError is an ErrMemlock: what the limit is, what was asked for, and what this process has locked (mlock) and
// pinned (devices) before. Bytes.
type MemlockError struct {
	Limit, Asked, Locked, Pinned uint64
}

func (e *MemlockError) Error() string {
	return fmt.Sprintf("%v: the limit is %d bytes, %d were asked for, %d are locked and %d pinned already; raise it "+
		"(ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of a container), or register less",
		ErrMemlock, e.Limit, e.Asked, e.Locked, e.Pinned)
}

// Unwrap makes it an ErrMemlock.
func (e *MemlockError) Unwrap() error { return ErrMemlock }
