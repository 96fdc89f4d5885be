package rdma

import (
	"math"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
)

func TestBadRegistrations(t *testing.T) {
	f := provider(t)
	f.Set(t, "max_mr_size", 1<<20)
	d := open(t, f, "", DomainOptions{})
	b := memory(t, 4096)
	at := addressOf(b)
	for _, tc := range []struct {
		addr, length uintptr
		access       Access
		says         string
	}{
		{0, 4096, LocalTarget, "addr"},
		{at, 0, LocalTarget, "length"},
		{at, math.MaxUint64, LocalTarget, "overflows"},
		{at, 1<<20 + 1, LocalTarget, "at once"},
		{at, 4096, 0, "access"},
		{at, 4096, LocalTarget | 2, "access"}, // a peer that writes
		{at, 4096, 8, "access"},               // atomics
	} {
		_, err := d.Register(tc.addr, tc.length, tc.access)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, tc.says)
	}
	require.Zero(t, d.Stats().Regions)
}

func TestRegistrationRefused(t *testing.T) {
	f := provider(t)
	d := open(t, f, "", DomainOptions{})
	b := memory(t, 8192)
	register(t, d, b, LocalTarget)
	f.Set(t, "reg_errno", int64(syscall.ENOMEM))
	_, err := d.Register(addressOf(b), 4096, LocalTarget)
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorIs(t, err, syscall.ENOMEM)
	var m *MemoryError
	require.ErrorAs(t, err, &m)
	require.EqualValues(t, 4096, m.Asked)
	require.EqualValues(t, 8192, m.Registered)
	m.Limit = 65536
	require.ErrorContains(t, m, "ulimit -l) is 65536 bytes, of which this process has registered 8192")

	f.Set(t, "reg_errno", int64(syscall.EFAULT))
	_, err = d.Register(addressOf(b), 4096, LocalTarget)
	require.ErrorIs(t, err, ErrInvalid)
	require.EqualValues(t, 8192, d.Stats().Registered)
}

func TestDeregistrationFails(t *testing.T) {
	f := provider(t)
	d := open(t, f, "", DomainOptions{})
	r := register(t, d, memory(t, 4096), LocalTarget)
	f.Set(t, "dereg_errno", int64(syscall.EBUSY))
	err := r.Close(t.Context())
	require.ErrorIs(t, err, ErrQuarantined)
	require.ErrorIs(t, d.Close(), ErrQuarantined)
	require.EqualValues(t, 4096, d.Stats().Registered)
	f.Reset()
	require.NoError(t, r.Close(t.Context()))
	require.Zero(t, d.Stats().Registered)
}

func TestRemoteDescription(t *testing.T) {
	d := open(t, provider(t), "", DomainOptions{})
	b := memory(t, 4096)
	r := register(t, d, b, RemoteRead)
	remote := r.Remote()
	require.EqualValues(t, addressOf(b), remote.Addr)
	require.EqualValues(t, 4096, remote.Length)
	require.Equal(t, d.Epoch(), remote.Epoch)
	back, err := ParseRemoteRegion(remote.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, remote, back)
	for _, bad := range [][]byte{nil, make([]byte, helloRegion), remote.AppendBinary([]byte{0}),
		RemoteRegion{Addr: math.MaxUint64, Length: 2}.AppendBinary(nil)} {
		_, err = ParseRemoteRegion(bad)
		require.ErrorIs(t, err, ErrProtocol)
	}
}

// Storms of registrations from several goroutines leave nothing.
func TestRegistrationStorm(t *testing.T) {
	d := open(t, provider(t), "", DomainOptions{})
	b := memory(t, 1<<20)
	before := ibv.Live()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 200 {
				r, err := d.Register(addressOf(b[i*4096:]), 4096, LocalTarget|RemoteRead)
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	after := ibv.Live()
	require.Equal(t, before.MRs, after.MRs)
	require.Equal(t, before.Registrations+800, after.Registrations)
	require.Equal(t, before.Deregistrations+800, after.Deregistrations)
}
