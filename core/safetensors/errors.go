package safetensors

import "errors"

var (
	// ErrFormat says that a file is damaged or hostile.
	ErrFormat = errors.New("not a valid safetensors file")
	// ErrIO says that a file could not be read or written.
	ErrIO = errors.New("file error")
)
