package blockio

import _ "unsafe" // for go:linkname

// now is CLOCK_MONOTONIC in nanoseconds.
//
//go:linkname now runtime.nanotime
//go:noescape
func now() int64
