package cost

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/registry"
	"moorage/core/tensor"
)

// card is figures of the kind that a card gives: 20 us and 0.06 ns for each byte, against 0.1 ns for each byte of a copy. Used
// once, registering costs less from 500 000 bytes on.
var card = Figures{Device: "card0", Register: Line{Fixed: 20_000, PerByte: 0.06}, Copy: Line{PerByte: 0.1}}

func TestChoose(t *testing.T) {
	slow := Figures{Device: "slow", Register: Line{Fixed: 20_000, PerByte: 0.3}, Copy: Line{PerByte: 0.1}}
	for _, c := range []struct {
		m          Model
		bytes      uint64
		uses       int
		registered bool
		want       Choice
	}{
		{Model{Figures: card}, 0, 1, false, Copy},
		{Model{Figures: card}, 1, 1, false, Copy},
		{Model{Figures: card}, 499_999, 1, false, Copy},
		{Model{Figures: card}, 500_001, 1, false, OnTheFly},
		{Model{Figures: card}, 500_001, 0, false, OnTheFly},
		{Model{Figures: card}, 499_999, -3, false, Copy},
		{Model{Figures: card}, 142_857, 2, false, Copy}, // 10 000 / (0.1 - 0.03)
		{Model{Figures: card}, 142_858, 2, false, OnTheFly},
		{Model{Figures: card}, 4095, 1000, false, Copy}, // less than a page
		{Model{Figures: card}, 4096, 1000, false, OnTheFly},
		{Model{Figures: card}, 1, 1, true, AsIs},
		{Model{Figures: card}, 1 << 40, 1, true, AsIs},
		{Model{Figures: slow}, 1 << 60, 1, false, Copy},
		{Model{Figures: slow}, 1 << 60, 3, false, Copy}, // both cost the same
		{Model{Figures: slow}, 1 << 30, 4, false, OnTheFly},
		{Model{}, 1 << 60, 100, false, Copy},

		{Model{Figures: card, CopyBelow: 1 << 20}, 1<<20 - 1, 100, false, Copy},
		{Model{Figures: card, CopyBelow: 1 << 20}, 1 << 20, 1, false, OnTheFly},
		{Model{Figures: card, RegisterFrom: 100}, 4095, 1, false, Copy},
		{Model{Figures: card, RegisterFrom: 100, CopyBelow: 1}, 100, 1, false, OnTheFly},
		{Model{Figures: slow, RegisterFrom: 8192}, 8192, 1, false, OnTheFly},
		{Model{RegisterFrom: 8192}, 8191, 100, false, Copy},

		{Model{Policy: Never, Figures: card, RegisterFrom: 1}, 1 << 40, 100, false, Copy},
		{Model{Policy: Never}, 1 << 40, 1, true, AsIs},
		{Model{Policy: Always, CopyBelow: 1 << 20}, 1, 1, false, OnTheFly},
		{Model{Policy: Always}, 0, 1, false, Copy}, // nothing is copied
		{Model{Policy: Always}, 1, 1, true, AsIs},
		{Model{Policy: Require}, 1 << 40, 1, true, AsIs},
	} {
		got, err := c.m.Choose(c.bytes, c.uses, c.registered)
		require.NoError(t, err, "%+v", c)
		require.Equal(t, c.want, got, "%+v", c)
	}
	for _, bytes := range []uint64{0, 1, 1 << 40} {
		_, err := Model{Policy: Require, Figures: card}.Choose(bytes, 100, false)
		require.ErrorIs(t, err, ErrNotRegistered)
		require.ErrorContains(t, err, `register="require"`)
	}
}

// TestThresholdFallsWithUse: the more often memory is used, the smaller it may be; whatever the figures are.
func TestThresholdFallsWithUse(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		m := Model{Figures: Figures{Register: Line{r.ExpFloat64() * 30_000, r.Float64() / 5}, Copy: Line{r.ExpFloat64() * 500, r.Float64() / 5}}}
		last := uint64(Unlimited)
		for uses := 1; uses < 1000; uses *= 3 {
			n := m.Threshold(uses)
			require.LessOrEqual(t, n, last, "%+v", m)
			require.GreaterOrEqual(t, n, uint64(page))
			if n < Unlimited {
				pay := func(n uint64) float64 { // of registering, over copying
					f := m.Figures
					return f.Copy.Fixed + f.Copy.PerByte*float64(n) - (f.Register.Fixed+f.Register.PerByte*float64(n))/float64(uses)
				}
				require.GreaterOrEqual(t, pay(n), -1e-3, "%+v: %d, %d times", m, n, uses)
				require.True(t, n == page || pay(n-2) < 1e-3, "%+v: %d, %d times", m, n, uses)
			}
			last = n
		}
	}
}

func TestPolicies(t *testing.T) {
	for p := range Policy(4) {
		back, err := ParsePolicy(p.String())
		require.NoError(t, err)
		require.Equal(t, p, back)
		require.True(t, p.Valid())
	}
	p, err := ParsePolicy("")
	require.NoError(t, err)
	require.Equal(t, Auto, p)
	for _, bad := range []string{"Auto", "sometimes", " auto"} {
		_, err = ParsePolicy(bad)
		require.ErrorIs(t, err, ErrPolicy)
		require.ErrorContains(t, err, "auto, never, always, require")
	}
	require.False(t, Policy(4).Valid())
	require.Equal(t, "policy 4", Policy(4).String())
}

func TestFit(t *testing.T) {
	points := func(l Line) (all []Point) {
		for _, n := range sizes {
			all = append(all, Point{Bytes: n, Register: l.At(n)})
		}
		return all
	}
	register := func(p Point) time.Duration { return p.Register }
	for _, want := range []Line{{20_000, 0.06}, {0, 0.1}, {50_000, 0}} {
		got := fit(points(want), register)
		require.InDelta(t, want.Fixed, got.Fixed, 2)
		require.InDelta(t, want.PerByte, got.PerByte, 1e-5)
	}
	falling := fit(points(Line{100_000, -0.05}), register)
	require.Zero(t, falling.PerByte, "larger never costs less")
	require.Positive(t, falling.Fixed)
	steep := fit(points(Line{-3000, 0.06}), register)
	require.Zero(t, steep.Fixed, "nothing costs less than nothing")
	require.True(t, steep.PerByte > 0 && steep.PerByte <= 0.06, "%v", steep)
	require.Equal(t, Line{}, fit(nil, register))
	require.Equal(t, Line{Fixed: 7}, fit([]Point{{1, 7, 0}}, register))
	require.False(t, math.IsNaN(fit(make([]Point, 3), register).Fixed))
}

// slowCard takes its time.
type slowCard struct {
	fixed, perMiB time.Duration
	made, live    int
	fail          error
}

func (c *slowCard) Name() string { return "slow0" }

func (c *slowCard) Register(at, as, size uintptr, use registry.Use) (registry.Region, error) {
	if c.fail != nil && size > 64<<10 {
		return nil, c.fail
	}
	if at != as || use != registry.Receive {
		return nil, errBad
	}
	c.made++
	c.live++
	for until := time.Now().Add(c.fixed + c.perMiB*time.Duration(size)>>20); time.Now().Before(until); {
	}
	return c, nil
}

func (c *slowCard) Deregister() error { c.live--; return nil }

var errBad = errors.New("bad")

// TestCalibrate: what a device that is dear by construction costs is found out, and that copying costs less.
func TestCalibrate(t *testing.T) {
	dear := &slowCard{fixed: time.Millisecond, perMiB: 8 * time.Millisecond}
	f, err := Calibrate(dear, tensor.CopyGo)
	require.NoError(t, err)
	t.Logf("%+v", f)
	require.Equal(t, len(sizes)*repeats, dear.made)
	require.Zero(t, dear.live)
	require.Equal(t, "slow0", f.Device)
	require.InDelta(t, 1e6, f.Register.Fixed, 5e5)
	require.InDelta(t, 8e6/(1<<20), f.Register.PerByte, 4e6/(1<<20))
	require.Less(t, f.Copy.PerByte, f.Register.PerByte)
	require.Equal(t, uint64(Unlimited), Model{Figures: f}.Threshold(1))
	choice, err := Model{Figures: f}.Choose(1<<30, 1, false)
	require.NoError(t, err)
	require.Equal(t, Copy, choice)

	free := &slowCard{}
	f, err = Calibrate(free, func(dst, src, n uintptr) {
		for until := time.Now().Add(time.Millisecond); time.Now().Before(until); {
		}
	})
	require.NoError(t, err)
	require.Less(t, Model{Figures: f}.Threshold(1), uint64(1<<20))

	free.fail = errBad
	_, err = Calibrate(free, tensor.CopyGo)
	require.ErrorIs(t, err, errBad)
	require.ErrorContains(t, err, "slow0 with 262144 bytes")
	require.Zero(t, free.live)
}

func TestExplain(t *testing.T) {
	f := card
	f.Took = 1_234_567
	for _, c := range []struct {
		m    Model
		want string
	}{
		{Model{Figures: f}, `
			card0: registering and deregistering costs 20µs + 62.9µs for each MiB, copying 0s + 105µs for each MiB (measured in 1.23ms, touched memory, 4 KiB pages)
			memory that is registered is used as it is
			register="auto": other memory is copied below 488.3 KiB and registered for the transfer from there on (measured)
			used 2 times, registering it yourself pays from 139.5 KiB on
			used 10 times, registering it yourself pays from 20.8 KiB on
			used 100 times, registering it yourself pays from 4 KiB on`},
		{Model{}, `
			no device was measured
			memory that is registered is used as it is
			register="auto": other memory is copied, whatever its size: for one transfer registering does not cost less`},
		{Model{RegisterFrom: 3 << 20}, `
			no device was measured
			memory that is registered is used as it is
			register="auto": other memory is copied below 3 MiB and registered for the transfer from there on (as configured)`},
		{Model{Policy: Never}, `
			no device was measured
			memory that is registered is used as it is
			register="never": other memory is copied, whatever its size`},
		{Model{Policy: Always}, `
			no device was measured
			memory that is registered is used as it is
			register="always": other memory is registered for each transfer, whatever its size`},
		{Model{Policy: Require}, `
			no device was measured
			memory that is registered is used as it is
			register="require": other memory is refused`},
	} {
		require.Equal(t, strings.TrimPrefix(strings.ReplaceAll(c.want, "\n\t\t\t", "\n"), "\n")+"\n", c.m.Explain())
	}
	require.Equal(t, []string{"17 bytes", "4 KiB", "1.5 GiB"}, []string{size(17), size(4096), size(3 << 29)})
	require.Equal(t, "at no size", from(Unlimited))
	require.Equal(t, []string{"as it is", "copied", "registered on the fly"}, []string{AsIs.String(), Copy.String(), OnTheFly.String()})
}
