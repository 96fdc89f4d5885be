//go:build linux

package rdma_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/rdma"
)

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

// memory maps n bytes that are unmapped at the end of the test.
func memory(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func register(t testing.TB, d *rdma.Domain, b []byte) *rdma.Region {
	t.Helper()
	r, err := d.Register(addressOf(b), uintptr(len(b)), rdma.LocalTarget)
	require.NoError(t, err)
	return r
}
