package verbs

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/rdma"
	"moorage/rdma/rdmatest"
)

// TestMain fails when the tests have left anything of a card, or have done what must never be done.
func TestMain(m *testing.M) {
	code := m.Run()
	left := rdma.Live()
	left.Registrations, left.Deregistrations = 0, 0
	if s := rdmatest.Left(); code == 0 && (s != "" || left != rdma.Counts{}) {
		fmt.Fprintf(os.Stderr, "left behind: %s %+v\n", s, left)
		code = 1
	}
	rdmatest.Remove()
	os.Exit(code)
}

func provider(t *testing.T) *rdmatest.Fake {
	t.Helper()
	f := rdmatest.Provider(t)
	t.Setenv("MOORAGE_LIBIBVERBS", f.Path)
	return f
}

func open(t *testing.T, f *rdmatest.Fake, name string) *Device {
	t.Helper()
	d, err := Open(name, Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		f.Reset()
		require.NoError(t, d.Close())
	})
	return d
}

// shared maps n bytes of a file in memory, and gives the file.
func shared(t *testing.T, n int) ([]byte, int) {
	t.Helper()
	file, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(file)) })
	require.NoError(t, unix.Ftruncate(file, int64(n)))
	return view(t, file, n), file
}

func view(t *testing.T, file, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(file, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}
