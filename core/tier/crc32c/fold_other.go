//go:build !amd64

package crc32c

const hasFold = false

func fold(uint32, *byte, int) uint32 { panic("crc32c: not on this processor") }
