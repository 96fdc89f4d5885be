package pull

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalid says that an argument is wrong; nothing was done.
	ErrInvalid = errors.New("invalid argument")
	// ErrReadOnly says that bytes were to go into memory of the store that is not reserved for them.
	ErrReadOnly = errors.New("memory of the store is written only while it is reserved")
	// ErrInUse says that offers or sinks have bounce buffers.
	ErrInUse = errors.New("transfers are in flight")
	// ErrClosed says that the endpoint, offer or sink was closed.
	ErrClosed = errors.New("closed")
)

func failf(kind error, format string, args ...any) error {
	return fmt.Errorf("pull: %w: "+format, append([]any{kind}, args...)...)
}
