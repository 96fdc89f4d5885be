package safetensors

import (
	"errors"
	"fmt"
)

var (
	// ErrFormat says that a file is damaged or hostile.
	ErrFormat = errors.New("not a valid safetensors file")
	// ErrIO says that a file could not be read or written.
	ErrIO = errors.New("file error")
	// ErrDType says that a tensor has a dtype for which the format has no name, or a shape that it cannot say.
	ErrDType = errors.New("dtype that safetensors cannot hold")
)

func badf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}
