package arena

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkProtect is one Protect and one Unprotect of warm memory, by moving
// page tables and by changing each entry.
func BenchmarkProtect(b *testing.B) {
	for _, kib := range []uint64{64, 128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 64 << 10, 256 << 10} {
		for _, off := range []uint64{0, 1 << 20} {
			for _, how := range []string{"move", "each"} {
				b.Run(fmt.Sprintf("KiB=%d/off=%d/how=%s", kib, off>>10, how), func(b *testing.B) {
					n := kib << 10
					r, err := OpenRegion(Options{Size: n + 4<<20})
					require.NoError(b, err)
					defer r.Close()
					off := off + (hugePage - uint64(r.writer)%hugePage)
					require.NoError(b, r.Populate(off, n))
					if how == "each" {
						r.park.still.Store(true)
					}
					for b.Loop() {
						require.NoError(b, r.Protect(off, n))
						require.NoError(b, r.Unprotect(off, n))
					}
				})
			}
		}
	}
}
