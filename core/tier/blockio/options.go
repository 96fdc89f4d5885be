package blockio

import "math/bits"

// Options of an engine. The zero value is what one usually wants.
type Options struct {
	Depth      int  // chunks of one request in flight at a time; 32
	ChunkBytes int  // 1 MiB
	Rings      int  // requests that Do can have in flight at a time; 8
	Align      int  // of memory, offset and length of direct I/O, a power of two; 4096
	Buffers    int  // places for registered memory, of at most 1 GiB each; 4096
	Files      int  // places for segments whose descriptors are registered; 1024
	MaxPath    Path // the best path that may be taken
	// Log is told, once for each kind, what the engine must do without.
	Log func(once string)
}

const (
	maxDepth   = 1024
	maxRings   = 256
	maxBuffers = 1 << 14 // the kernel's
	maxFiles   = 1 << 15
)

func (o Options) filled() (Options, error) {
	for _, f := range [...]struct {
		name       string
		value      *int
		usual, max int
	}{
		{"Depth", &o.Depth, 32, maxDepth}, {"ChunkBytes", &o.ChunkBytes, 1 << 20, 1 << 30}, {"Rings", &o.Rings, 16, maxRings},
		{"Align", &o.Align, 4096, 1 << 16}, {"Buffers", &o.Buffers, 4096, maxBuffers}, {"Files", &o.Files, 1024, maxFiles},
	} {
		if *f.value == 0 {
			*f.value = f.usual
		}
		if *f.value < 0 || *f.value > f.max {
			return o, invalid("%s is %d: 1 to %d, or 0 for %d", f.name, *f.value, f.max, f.usual)
		}
	}
	switch {
	case bits.OnesCount(uint(o.Align)) != 1:
		return o, invalid("Align is %d: not a power of two", o.Align)
	case o.ChunkBytes%o.Align != 0:
		return o, invalid("ChunkBytes is %d: not a multiple of Align, %d", o.ChunkBytes, o.Align)
	case o.MaxPath >= Paths:
		return o, invalid("MaxPath is %d", o.MaxPath)
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	return o, nil
}
