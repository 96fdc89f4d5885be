package crc32c

import "golang.org/x/sys/cpu"

var hasFold = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasSSE42

// fold is the checksum, without the inversions at both ends, of n bytes from a state on.
//
//go:noescape
func fold(state uint32, p *byte, n int) uint32
