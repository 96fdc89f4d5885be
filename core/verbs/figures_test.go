package verbs

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

// TestFigures: a card is measured once, and nothing stays registered.
func TestFigures(t *testing.T) {
	f := provider(t)
	d := open(t, f, "fake0")
	f.Set(t, "reg_errno", int64(syscall.ENOMEM))
	_, err := d.Figures(tensor.CopyGo)
	require.ErrorIs(t, err, syscall.ENOMEM)
	f.Reset()
	before := f.Get("registrations")
	first, err := d.Figures(tensor.CopyGo)
	require.NoError(t, err)
	require.Equal(t, "fake0", first.Device)
	made := f.Get("registrations")
	require.Greater(t, made, before)
	require.Zero(t, d.Domain().Stats().Regions)
	again, err := open(t, f, "fake0").Figures(tensor.CopyGo)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, made, f.Get("registrations"))
	other, err := open(t, f, "fake1").Figures(tensor.CopyGo)
	require.NoError(t, err)
	require.Equal(t, "fake1", other.Device)
}
