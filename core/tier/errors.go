package tier

import (
	"errors"
	"fmt"
)

// The errors of a disk. Those of the directory (file.ErrLocked, file.ErrNoSpace, file.ErrReadOnly …) come through as they are.
var (
	ErrClosed  = errors.New("the disk tier is closed")
	ErrFull    = errors.New("the disk tier is full")
	ErrFormat  = errors.New("not a directory of this disk tier")
	ErrDamaged = errors.New("the bytes on disk are damaged")
	ErrInvalid = errors.New("invalid argument")
)

// Error is an error of the operation Op.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "disk: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, err error) error { return &Error{Op: op, Err: err} }

func failf(op string, kind error, format string, args ...any) error {
	return &Error{Op: op, Err: fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)}
}

// FullError is an ErrFull: why there was no room. Bytes.
type FullError struct {
	Want     uint64
	Free     uint64
	Capacity uint64
	Used     uint64 // by objects
	Reserved uint64 // by objects that are being written
	Pending  uint64 // by what is gone, but is still being read
	Evicting bool
}

func (e *FullError) Error() string {
	remedy := `raise disk_capacity, remove objects, or let a full disk evict`
	if e.Evicting {
		remedy = "raise disk_capacity, or let go of what is being read"
	}
	return fmt.Sprintf("%v: %d bytes wanted; of %d bytes %d are free, %d used by objects, %d by objects that are being written, %d by removed ones that are still being read; %s",
		ErrFull, e.Want, e.Capacity, e.Free, e.Used, e.Reserved, e.Pending, remedy)
}

// Unwrap makes it an ErrFull.
func (e *FullError) Unwrap() error { return ErrFull }

// DamagedError is an ErrDamaged: an object whose bytes are not those that were written. It is gone.
type DamagedError struct {
	Key    []byte
	Offset uint64 // of the part that is damaged
	Bytes  uint64
	// Promised says that the object was durable. One that was not may have lost its bytes with the power: that is a miss, and
	// no fault of the disk.
	Promised bool
}

func (e *DamagedError) Error() string {
	why := "it was durable: look at the disk"
	if !e.Promised {
		why = "it had not been made durable before the power or the process went"
	}
	return fmt.Sprintf("%v: %d bytes at %d of object %q have the wrong checksum; the object was removed; %s", ErrDamaged, e.Bytes, e.Offset, e.Key, why)
}

// Unwrap makes it an ErrDamaged.
func (e *DamagedError) Unwrap() error { return ErrDamaged }
