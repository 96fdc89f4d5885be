package tensor

import "errors"

// The reasons for which a descriptor is refused. Errors of this package wrap
// exactly one of them and name the dimension or value at fault.
var (
	// ErrDType: the element type is unknown, or is one that neither torch nor
	// numpy can hold.
	ErrDType = errors.New("unsupported dtype")

	// ErrShape: too many dimensions, a negative extent, or an odd number of
	// elements of which two share a byte.
	ErrShape = errors.New("bad shape")

	// ErrStrides: not one stride per dimension, or strides of a type whose
	// elements cannot be addressed one by one.
	ErrStrides = errors.New("bad strides")

	// ErrTooLarge: the size, or the distance between the first and the last
	// byte, is more than any machine can address.
	ErrTooLarge = errors.New("tensor too large")

	// ErrAddress: a tensor that has bytes lies at address zero, or reaches
	// past an end of the address space.
	ErrAddress = errors.New("bad data address")
)
