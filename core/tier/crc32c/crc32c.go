// Package crc32c computes CRC32C checksums (Castagnoli, reflected, as in iSCSI, RFC 3720 B.4) at the speed at which memory can
// be read.
//
// The standard library runs three streams through the crc32 instruction, which is fast in the cache; from memory it reaches a
// fraction of that, since no prefetcher follows three streams of one page. Where the processor multiplies polynomials of 512
// bits at a time (AVX-512 with VPCLMULQDQ), one stream is folded instead. Everywhere else it is the standard library's.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// Checksum is that of b.
func Checksum(b []byte) uint32 { return Update(0, b) }

// Update is the checksum of something whose checksum is crc, with b behind it.
func Update(crc uint32, b []byte) uint32 {
	if n := len(b) &^ (foldStep - 1); hasFold && n >= foldFrom {
		crc = ^fold(^crc, &b[0], n)
		b = b[n:]
	}
	return crc32.Update(crc, table, b)
}

// fold takes a multiple of foldStep bytes, from foldFrom on.
const (
	foldStep = 64
	foldFrom = 256
)
