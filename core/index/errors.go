package index

import (
	"errors"
	"fmt"
)

var (
	// ErrNoMemory is wrapped by every MemoryError.
	ErrNoMemory = errors.New("index: out of memory")
	// ErrExhausted says that the unit numbers are used up: 128 GiB of record memory.
	ErrExhausted = errors.New("index: record memory is at its limit of 128 GiB")
	// ErrKeyLength says that a key is empty or longer than MaxKey.
	ErrKeyLength = errors.New("index: a key has 1 to 4096 bytes")
	// ErrMetaLength says that user metadata is longer than MaxMeta.
	ErrMetaLength = errors.New("index: user metadata has at most 4096 bytes")
	// ErrDimensions says that a shape has more than MaxDims dimensions.
	ErrDimensions = errors.New("index: a shape has at most 64 dimensions")
	// ErrBodySize says that a block was asked for a body of impossible length, or that a body does not fit its block.
	ErrBodySize = errors.New("index: body does not fit")
)

// MemoryError says that memory could not be mapped. Nothing was changed.
type MemoryError struct {
	Op    string // what the memory was for
	Bytes int    // how much was asked for
	Err   error  // why it was refused
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("index: %s: %d bytes: %v", e.Op, e.Bytes, e.Err)
}

// Unwrap makes the error match ErrNoMemory and its cause.
func (e *MemoryError) Unwrap() []error { return []error{ErrNoMemory, e.Err} }
