package registry

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// closing is a card that can be closed.
type closing struct {
	*card
	closed int
	fail   error
}

func (c *closing) Close() error {
	c.closed++
	return c.fail
}

var errStuck = errors.New("stuck")

// TestDevicesAreClosed: once, by who took them over, behind what is registered with them.
func TestDevicesAreClosed(t *testing.T) {
	r, _ := open(t, newMemory(1<<20))
	one, two, plain := &closing{card: newCard("one")}, &closing{card: newCard("two"), fail: errStuck}, newCard("plain")
	var all []*Attached
	for _, d := range []Device{one, two, plain} {
		a, err := r.Attach(d)
		require.NoError(t, err)
		all = append(all, a)
	}
	require.Equal(t, all, r.Devices())
	require.NoError(t, r.Detach(t.Context(), all[0]))
	require.NoError(t, r.Detach(t.Context(), all[0]))
	require.Equal(t, 1, one.closed)
	require.Equal(t, all[1:], r.Devices())
	r.Close()
	require.NoError(t, r.CloseMemory())
	require.ErrorIs(t, r.CloseDevices(), errStuck)
	require.NoError(t, r.CloseDevices())
	require.Equal(t, []int{1, 1}, []int{one.closed, two.closed})
}

// TestFiguresOfADevice: each device counts what was registered with it, by the caller, of the store and for one transfer.
func TestFiguresOfADevice(t *testing.T) {
	r, devices := open(t, newMemory(1<<20), newCard("a"), newCard("b"))
	g, err := r.Register(0x10000, 0x1000, Options{})
	require.NoError(t, err)
	pieces, err := r.Acquire(devices[0], r.slabs.memory.WriterAddr(0), 10, nil)
	require.NoError(t, err)
	loan, err := r.Lend(devices[1], 0x20000, 100, Send)
	require.NoError(t, err)
	a, b := devices[0].Stats(), devices[1].Stats()
	require.Equal(t, DeviceStats{Name: "a", Regions: 2, Bytes: 0x1000 + 1<<20, Registered: 2, Time: a.Time}, a)
	require.Equal(t, DeviceStats{Name: "b", Regions: 2, Bytes: 0x1000 + 100, Registered: 2, Time: b.Time}, b)
	require.Equal(t, uint64(4), r.Stats().Registered)
	require.Positive(t, a.Time)
	pieces[0].End()
	require.NoError(t, loan.End())
	require.NoError(t, loan.End())
	require.NoError(t, g.Release(t.Context()))
	require.Equal(t, DeviceStats{Name: "b", Registered: 2, Deregistered: 2, Time: devices[1].Stats().Time}, devices[1].Stats())
}

// TestLoan: nobody finds it, it is for one use, and its device stays until it has ended.
func TestLoan(t *testing.T) {
	c := newCard("a")
	m := newMemory(1 << 20)
	r, devices := open(t, m, c)
	loan, err := r.Lend(devices[0], 0x10000, 100, Receive)
	require.NoError(t, err)
	require.Equal(t, Receive, loan.Region.(*region).use)
	_, ok := r.Find(0x10000, 100)
	require.False(t, ok)
	require.ErrorIs(t, r.Detach(over(), devices[0]), ErrInUse)
	_, err = r.Lend(devices[0], 0x10000, 100, Receive)
	require.ErrorIs(t, err, ErrClosed)
	c.failDrop = errCard
	require.ErrorIs(t, loan.End(), errCard)
	require.NoError(t, r.Detach(t.Context(), devices[0]))

	r, devices = open(t, m, c)
	for _, bad := range []uintptr{0, m.writer, m.reader + 5} {
		_, err = r.Lend(devices[0], bad, 10, Send)
		require.ErrorIs(t, err, ErrInvalid)
	}
	c.fail.Store(&errCard)
	_, err = r.Lend(devices[0], 0x1000, 10, Send)
	require.ErrorIs(t, err, errCard)
	require.NoError(t, r.Detach(t.Context(), devices[0]), "what was refused keeps nothing")
}
