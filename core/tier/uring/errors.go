package uring

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrUnavailable says that there is no io_uring here that can be used: the kernel is too old, or it is switched off or
// forbidden (sysctl kernel.io_uring_disabled, seccomp).
var ErrUnavailable = errors.New("io_uring is not available")

// Error is what failed and why. Op names the system call and what it was to do.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "uring: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause: an errno, or ErrUnavailable.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Err: err}
}

// Busy reports whether Enter failed for want of resources that completions give back.
func Busy(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY)
}
