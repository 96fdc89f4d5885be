package rdma

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
)

func requireUnavailable(t *testing.T, err error, want Reason) {
	t.Helper()
	require.ErrorIs(t, err, ErrUnavailable)
	var u *UnavailableError
	require.ErrorAs(t, err, &u)
	require.Equal(t, want, u.Reason)
	require.ErrorContains(t, err, want.String())
}

func TestNoLibrary(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "libibverbs.so.1"))
	requireUnavailable(t, err, NoLibrary)
	notALibrary := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(notALibrary, []byte("text"), 0o600))
	_, err = Load(notALibrary)
	requireUnavailable(t, err, NoLibrary)
}

// A library that is something else is as good as none.
func TestLibraryWithoutVerbs(t *testing.T) {
	_, err := Load("libc.so.6")
	requireUnavailable(t, err, NoLibrary)
	require.ErrorContains(t, err, "ibv_get_device_list")
}

// What this machine's own library says is never an error of another kind.
func TestThisMachine(t *testing.T) {
	lib, err := Load("")
	if err == nil {
		_, err = lib.Devices()
	}
	if err != nil {
		require.ErrorIs(t, err, ErrUnavailable)
		t.Log(err)
	}
}

func TestReasons(t *testing.T) {
	for _, tc := range []struct {
		setting string
		value   int64
		want    Reason
	}{
		{"list_errno", int64(syscall.ENOSYS), NoKernel},
		{"devices", 0, NoDevice},
		{"open_errno", int64(syscall.EACCES), NoPermission},
		{"port_state", 1, NoActivePort},
	} {
		f := provider(t)
		lib, err := Load(f.Path)
		require.NoError(t, err)
		devices, err := lib.Devices()
		require.NoError(t, err)
		require.Len(t, devices, 2)
		f.Set(t, tc.setting, tc.value)
		_, err = lib.Devices()
		requireUnavailable(t, err, tc.want)
		_, err = lib.Open("", DomainOptions{})
		require.ErrorIs(t, err, errorOfOpen(tc.want), tc.setting)
	}
}

func errorOfOpen(r Reason) error {
	if r == NoKernel {
		return syscall.ENOSYS
	}
	return ErrUnavailable
}

func TestDevices(t *testing.T) {
	f := provider(t)
	lib, err := Load(f.Path)
	require.NoError(t, err)
	lib.sysfs = t.TempDir()
	node := filepath.Join(lib.sysfs, "fake1", "device")
	require.NoError(t, os.MkdirAll(node, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(node, "numa_node"), []byte("1\n"), 0o600))
	devices, err := lib.Devices()
	require.NoError(t, err)
	port := []Port{{Number: 1, Active: true, MTU: 1024, MaxMessage: 1 << 30}}
	require.Equal(t, []Device{
		{Name: "fake0", Firmware: "fake", NUMANode: -1, Ports: port},
		{Name: "fake1", Firmware: "fake", NUMANode: 1, Ports: port},
	}, devices)
}

func TestOpen(t *testing.T) {
	f := provider(t)
	require.Equal(t, "fake0", open(t, f, "", DomainOptions{}).Name())
	one, two := open(t, f, "fake1", DomainOptions{Port: 1}), open(t, f, "fake1", DomainOptions{})
	require.NotEqual(t, one.Epoch(), two.Epoch())
	lib, err := Load(f.Path)
	require.NoError(t, err)
	for _, o := range []DomainOptions{{Port: -1}, {Port: 256}, {Entries: -1}, {Flush: -1}, {GID: "nonsense"}} {
		_, err = lib.Open("", o)
		require.ErrorIs(t, err, ErrInvalid, "%+v", o)
	}
	_, err = lib.Open("fake2", DomainOptions{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = lib.Open("", DomainOptions{Port: 2})
	requireUnavailable(t, err, NoActivePort)
}

// Whatever fails while opening or connecting, nothing is left: TestMain counts.
func TestFailuresOnTheWay(t *testing.T) {
	f := provider(t)
	lib, err := Load(f.Path)
	require.NoError(t, err)
	f.Set(t, "pd_errno", int64(syscall.ENOMEM))
	_, err = lib.Open("", DomainOptions{})
	require.ErrorIs(t, err, syscall.ENOMEM)
	f.Set(t, "pd_errno", 0)
	f.Set(t, "max_reads", 0)
	_, err = lib.Open("", DomainOptions{})
	require.ErrorIs(t, err, ErrDevice)
	f.Reset()

	a, b := open(t, f, "fake0", DomainOptions{}), open(t, f, "fake1", DomainOptions{})
	for _, tc := range []struct {
		setting string
		state   int64
	}{
		{"channel_errno", 0}, {"cq_errno", 0}, {"qp_errno", 0}, {"gid_errno", 0},
		{"modify_errno", ibv.StateInit}, {"modify_errno", ibv.StateRTR}, {"modify_errno", ibv.StateRTS},
	} {
		f.Set(t, tc.setting, int64(syscall.ENOMEM))
		f.Set(t, "modify_state", tc.state)
		_, _, erra, errb := tryConnect(t, a, b, ConnOptions{QueuePairs: 2}, ConnOptions{})
		require.Error(t, erra, "%+v", tc)
		require.Error(t, errb, "%+v", tc)
		require.True(t, errors.Is(erra, syscall.ENOMEM) || errors.Is(errb, syscall.ENOMEM), "%+v: %v; %v", tc, erra, errb)
		f.Reset()
	}
	require.Zero(t, a.Stats().Conns)
	connect(t, a, b, ConnOptions{}, ConnOptions{})
	require.Equal(t, 1, a.Stats().Conns)
}

func TestClosedDomain(t *testing.T) {
	f := provider(t)
	d := open(t, f, "", DomainOptions{})
	b := memory(t, 4096)
	r := register(t, d, b, LocalTarget)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	require.NoError(t, r.Close(t.Context()), "it went with the domain")
	_, err := d.Register(addressOf(b), 4096, LocalTarget)
	require.ErrorIs(t, err, ErrClosed)
	control, other := ends(t)
	defer other.Close()
	_, err = d.Connect(t.Context(), control, ConnOptions{})
	require.ErrorIs(t, err, ErrClosed)
	_, err = control.Write([]byte{0})
	require.Error(t, err, "the control connection is closed when connecting fails")
}
