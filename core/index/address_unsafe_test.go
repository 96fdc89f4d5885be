package index

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"moorage/core/arena/cell"
)

func addressOf(c *cell.Cell) uintptr { return uintptr(unsafe.Pointer(c)) }

// C reads the directory by these offsets.
func TestDirectoryLayout(t *testing.T) {
	var d directory
	require.EqualValues(t, 0, unsafe.Offsetof(d.chunks))
	require.EqualValues(t, 4, unsafe.Offsetof(d.tiled))
	require.EqualValues(t, 8, unsafe.Offsetof(d.unit))
	require.EqualValues(t, 64, unsafe.Offsetof(d.base))
	require.EqualValues(t, 64+524288, unsafe.Offsetof(d.owner))

	h := newHeap(t, Options{})
	unit, c, err := h.Alloc(0, 0)
	require.NoError(t, err)
	raw := (*directory)(unsafe.Pointer(h.dir))
	require.Equal(t, h.Directory(), uintptr(unsafe.Pointer(raw)))
	require.EqualValues(t, 1, raw.chunks.Load())
	require.EqualValues(t, 65535, raw.tiled)
	require.EqualValues(t, 32, raw.unit)
	require.Equal(t, addressOf(c), uintptr(raw.base[unit>>16])+uintptr(unit&65535)*32)
}
