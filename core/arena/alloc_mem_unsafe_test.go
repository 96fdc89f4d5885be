//go:build !race

package arena

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestMetadataIsNotForked: a fork copies no page table of the bookkeeping.
func TestMetadataIsNotForked(t *testing.T) {
	mem := newBacking().(*mapped)
	a, err := newExtents(1<<30, 4<<10, mem)
	require.NoError(t, err)
	defer a.Close()
	for range chunkLen {
		mustAlloc(t, a, 64, false)
	}
	require.Len(t, mem.maps, 3)
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	for _, m := range mem.maps {
		flags := vmFlags(string(smaps), uintptr(unsafe.Pointer(unsafe.SliceData(m))))
		require.Contains(t, flags, "dc")
	}
}

func TestDescriptorSize(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(block{}), uintptr(32))
}
