package index

import "sync/atomic"

const (
	pageBytes = 4 << 10
	hugeBytes = 2 << 20
)

// Options of a Heap and of the tables made for it. The zero value is the default.
type Options struct {
	// BeforeMap, when set, is called before memory is mapped; an error refuses it. Tests use it to let the n-th
	// mapping fail.
	BeforeMap func(bytes int) error
}

func (o Options) before(op string, bytes int) error {
	if o.BeforeMap == nil {
		return nil
	}
	if err := o.BeforeMap(bytes); err != nil {
		return &MemoryError{Op: op, Bytes: bytes, Err: err}
	}
	return nil
}

var liveMappings atomic.Int64

// Live is the number of mappings that heaps and tables of this process hold now. Tests use it to find leaks.
func Live() int64 { return liveMappings.Load() }
