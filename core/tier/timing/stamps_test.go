package timing

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func random(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestTheClockIsThatOfTheSystem(t *testing.T) {
	var before, after unix.Timespec
	for range 1000 {
		require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
		now := Now()
		require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &after))
		require.LessOrEqual(t, before.Nano(), now)
		require.LessOrEqual(t, now, after.Nano())
	}
}

// Whatever the stamps are: even those that make no sense must not lose a nanosecond.
func TestHostAndDeviceAreTotal(t *testing.T) {
	require.NoError(t, quick.Check(func(t0, t1, t2, t3 int64) bool {
		s := Stamps{t0, t1, t2, t3}
		return s.Host()+s.Device() == s.Total()
	}, &quick.Config{MaxCount: 20_000}))
}

func TestStampsOfEachCase(t *testing.T) {
	for name, one := range map[string]struct {
		stamps              Stamps
		device, host, total int64
	}{
		"read":                        {Stamps{100, 130, 190, 200}, 60, 40, 100},
		"found in memory":             {Hit(100, 140), 0, 40, 40},
		"follower before submission":  {Follow(100, Stamps{90, 120, 180, 200}, 210), 60, 50, 110},
		"follower while it flies":     {Follow(150, Stamps{90, 120, 180, 200}, 210), 30, 30, 60},
		"follower after it has ended": {Follow(190, Stamps{90, 120, 180, 200}, 210), 0, 20, 20},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, one.stamps.Ordered())
			require.Equal(t, one.device, one.stamps.Device())
			require.Equal(t, one.host, one.stamps.Host())
			require.Equal(t, one.total, one.stamps.Total())
		})
	}
}

// A follower keeps its own start and end, is in the device only while the leader is, and never runs backwards.
func TestAFollowerIsInsideItsLeader(t *testing.T) {
	r := random(t)
	for range 5_000 {
		leader := Stamps{0, r.Int64N(100), 0, 0}
		leader.T2 = leader.T1 + r.Int64N(100)
		leader.T3 = leader.T2 + r.Int64N(100)
		t0 := r.Int64N(leader.T3 + 1)
		t3 := leader.T3 + r.Int64N(100)
		s := Follow(t0, leader, t3)
		require.True(t, s.Ordered())
		require.Equal(t, t0, s.T0)
		require.Equal(t, t3, s.T3)
		require.Equal(t, max(t0, leader.T1), s.T1)
		require.LessOrEqual(t, s.Device(), leader.Device())
		if t0 <= leader.T2 {
			require.Equal(t, leader.T2, s.T2)
		}
	}
}

func TestWhatDidNotGetFarHasAllItsStamps(t *testing.T) {
	for name, one := range map[string]struct{ from, to Stamps }{
		"never submitted":   {Stamps{T0: 10}, Stamps{10, 50, 50, 50}},
		"never completed":   {Stamps{T0: 10, T1: 20}, Stamps{10, 20, 50, 50}},
		"ended by itself":   {Stamps{T0: 10, T1: 20, T2: 30}, Stamps{10, 20, 30, 50}},
		"ended once before": {Stamps{10, 20, 30, 40}, Stamps{10, 20, 30, 50}},
	} {
		t.Run(name, func(t *testing.T) {
			one.from.End(50)
			require.Equal(t, one.to, one.from)
			require.True(t, one.from.Ordered())
		})
	}
}

func TestWordsHaveNames(t *testing.T) {
	require.Len(t, kindNames, int(kinds))
	require.Len(t, classNames, int(classes))
	require.Len(t, pathNames, int(paths))
	require.Len(t, durabilityNames, int(durabilities))
	seen := map[string]bool{}
	for m := range Measures {
		require.NotEmpty(t, m.String())
		require.False(t, seen[m.String()])
		seen[m.String()] = true
	}
	require.Equal(t, "unknown", Kind(200).String())
	for p := range paths {
		require.NotEmpty(t, Definition(p, false))
		require.NotEmpty(t, Definition(p, true))
	}
}

func TestWhatIsInconsistent(t *testing.T) {
	good := Record{Stamps: Stamps{100, 130, 190, 200}, Parts: Parts{Lookup: 10, Submit: 20, Verify: 10}}
	require.True(t, good.Consistent())
	require.Zero(t, good.Other())
	for name, change := range map[string]func(*Record){
		"t1 before t0":            func(r *Record) { r.T1 = 99 },
		"t2 before t1":            func(r *Record) { r.T2 = 129 },
		"t3 before t2":            func(r *Record) { r.T3 = 189 },
		"more parts than host":    func(r *Record) { r.Copy = 1 },
		"a part below nothing":    func(r *Record) { r.Lookup = -1 },
		"overlap below nothing":   func(r *Record) { r.VerifyOverlapped = math.MinInt64 },
		"a kind that is not":      func(r *Record) { r.Kind = kinds },
		"a class that is not":     func(r *Record) { r.Class = classes },
		"a path that is not":      func(r *Record) { r.Path = paths },
		"no such durability":      func(r *Record) { r.Durability = durabilities },
		"parts that cancel out":   func(r *Record) { r.Lookup, r.Copy = -10, 20 },
		"beyond what can be lost": func(r *Record) { r.Lookup, r.Copy = math.MaxInt64, math.MaxInt64 },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			change(&r)
			require.False(t, r.Consistent())
		})
	}
}

func TestChunkMean(t *testing.T) {
	require.Zero(t, (&Record{ChunkSum: 7}).ChunkMean())
	require.Equal(t, 3.5, (&Record{ChunkSum: 7, Chunks: 2}).ChunkMean())
}

// Who waited for his turn, and then for a read that another had begun meanwhile, was in the device from his turn on.
func TestAFollowerThatWaitedForItsTurn(t *testing.T) {
	for _, c := range []struct {
		leader         Stamps
		device, lookup int64
	}{
		{Stamps{T1: 150, T2: 400}, 200, 0},  // begun before our turn
		{Stamps{T1: 205, T2: 400}, 195, 5},  // while we looked up
		{Stamps{T1: 300, T2: 400}, 100, 10}, // after it
		{Stamps{T1: 10, T2: 150}, 0, 0},     // at its end
	} {
		r := Record{Kind: Get, Stamps: Stamps{T0: 100}, Parts: Parts{QueueWait: 100, Lookup: 10}}
		r.Follow(c.leader, 450)
		require.True(t, r.Shared && r.Consistent(), "%+v", r)
		require.Equal(t, c.device, r.Device())
		require.Equal(t, c.lookup, r.Lookup)
		require.EqualValues(t, 350, r.Host()+r.Device())
	}
}
