package timing

import _ "unsafe" // for go:linkname

// Now is CLOCK_MONOTONIC in nanoseconds, the same count that clock_gettime, Python's time.monotonic_ns and the kernel's
// own traces have, so that stamps taken here and elsewhere can be compared. (time.Since(start) would cost the same, but
// counts from a start whose place on that clock Go does not tell.)
//
//go:linkname Now runtime.nanotime
//go:noescape
func Now() int64
