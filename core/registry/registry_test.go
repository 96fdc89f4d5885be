package registry

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// open gives a registry with devices, all of which is taken down at the end of the test.
func open(t testing.TB, m Memory, cards ...*card) (*Registry, []*Attached) {
	t.Helper()
	r := fakeRegistry(m)
	all := make([]*Attached, len(cards))
	for i, c := range cards {
		var err error
		all[i], err = r.Attach(c)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		r.Close()
		require.NoError(t, r.CloseMemory())
		for _, c := range cards {
			require.Eventually(t, func() bool { return c.live() == 0 }, 5*time.Second, time.Millisecond)
		}
		v := r.Stats()
		require.Equal(t, v.Registered, v.Deregistered)
		require.Zero(t, v.SlabBytes+v.Bytes+v.LockedBytes+v.Registrations)
	})
	return r, all
}

func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRegisterFindRelease(t *testing.T) {
	a, b := newCard("a"), newCard("b")
	r, devices := open(t, newMemory(1<<20), a, b)
	outer, err := r.Register(0x10000, 0x10000, Options{})
	require.NoError(t, err)
	inner, err := r.Register(0x12000, 0x1000, Options{})
	require.NoError(t, err)
	same, err := r.Register(0x10000, 0x10000, Options{})
	require.NoError(t, err)
	require.Len(t, map[uint64]bool{outer.ID(): true, inner.ID(): true, same.ID(): true}, 3)
	require.Equal(t, 3, a.live())
	require.Equal(t, 3, b.live())
	require.Equal(t, Stats{Registrations: 3, Bytes: 0x21000, Devices: 2, Registered: 6, Time: r.Stats().Time}, r.Stats())

	for _, c := range []struct {
		addr uintptr
		n    uint64
		ok   bool
	}{
		{0x10000, 0x10000, true}, {0x1ffff, 1, true}, {0x12345, 10, true}, {0x10000, 0, true},
		{0xffff, 2, false}, {0x10000, 0x10001, false}, {0x1ffff, 2, false}, {0x20000, 1, false}, {1, 1, false},
		{0x12000, 1 << 63, false}, {0x12000, ^uint64(0), false},
	} {
		f, ok := r.Find(c.addr, c.n)
		require.Equal(t, c.ok, ok, "%x %d", c.addr, c.n)
		pieces, err := r.Acquire(devices[0], c.addr, c.n, nil)
		if !ok {
			require.ErrorIs(t, err, ErrNotRegistered)
			require.Empty(t, pieces)
			continue
		}
		require.NoError(t, err)
		require.Len(t, pieces, 1)
		require.Equal(t, c.addr, pieces[0].Addr)
		require.Equal(t, uint64(c.addr-f.Registration.Start()), f.Offset)
		pieces[0].End()
	}
	// Each counts for itself.
	require.NoError(t, outer.Release(t.Context()))
	require.NoError(t, outer.Release(t.Context()))
	_, ok := r.Find(0x10000, 0x10000)
	require.True(t, ok)
	require.NoError(t, same.Release(t.Context()))
	_, ok = r.Find(0x10000, 0x10000)
	require.False(t, ok)
	_, ok = r.Find(0x12000, 0x1000)
	require.True(t, ok)
	require.NoError(t, inner.Release(t.Context()))
	require.Zero(t, a.live()+b.live())
}

func TestRegisterRefuses(t *testing.T) {
	m := newMemory(1 << 20)
	r, _ := open(t, m, newCard("a"))
	for _, c := range []struct {
		addr uintptr
		size uint64
	}{
		{0, 10}, {4096, 0}, {4096, 1 << 63}, {^uintptr(0), 2}, {1 << 62, 1 << 62},
		{m.writer, 10}, {m.reader + 100, 1}, {m.reader - 5, 10}, {m.writer + 1<<20 - 1, 100},
	} {
		_, err := r.Register(c.addr, c.size, Options{Lock: true})
		require.ErrorIs(t, err, ErrInvalid, "%x %d", c.addr, c.size)
	}
	real := New(NewLocks(), nil)
	at := mapped(t, 1<<20)
	for _, bad := range []uintptr{1, 4096} {
		_, err := real.Register(bad, 1<<20, Options{})
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, "mapped")
	}
	g, err := real.Register(at+1, 1<<20-1, Options{})
	require.NoError(t, err)
	require.NoError(t, g.Release(t.Context()))
}

// TestRegisterRollsBack: what one device refuses is registered with none, and not locked.
func TestRegisterRollsBack(t *testing.T) {
	k := &pageKernel{locked: map[uintptr]bool{}}
	r := New(&Locks{sys: k.kernel()}, nil)
	good, bad := newCard("good"), newCard("bad")
	bad.fail.Store(&errCard)
	for _, c := range []*card{good, bad} {
		_, err := r.Attach(c)
		require.NoError(t, err)
	}
	_, err := r.Register(1<<20, 1<<20, Options{Lock: true})
	require.ErrorIs(t, err, errCard)
	require.ErrorContains(t, err, "bad")
	require.Zero(t, good.live()+bad.live()+len(k.locked))
	require.Equal(t, Stats{Devices: 2, Registered: 1, Deregistered: 1, Time: r.Stats().Time}, r.Stats())
	_, ok := r.Find(1<<20, 1)
	require.False(t, ok)
	bad.fail.Store(nil)
	g, err := r.Register(1<<20, 1<<20, Options{Lock: true})
	require.NoError(t, err)
	good.failDrop = errCard
	err = g.Release(t.Context())
	require.ErrorIs(t, err, errCard)
	require.Equal(t, err, g.Release(t.Context()))
	require.Zero(t, good.live()+bad.live()+len(k.locked), "the rest is taken down all the same")
}

// TestReleaseWaits: for transfers, but not beyond its context, and not for those of other registrations.
func TestReleaseWaits(t *testing.T) {
	c := newCard("a")
	r, devices := open(t, nil, c)
	g, err := r.Register(4096, 4096, Options{})
	require.NoError(t, err)
	pieces, err := r.Acquire(devices[0], 5000, 10, nil)
	require.NoError(t, err)
	require.Equal(t, uint64(1), g.InFlight())
	require.ErrorIs(t, g.Release(over()), ErrInUse)
	require.Equal(t, 1, c.live(), "it stays registered under the transfer")
	_, err = r.Acquire(devices[0], 5000, 10, nil)
	require.ErrorIs(t, err, ErrNotRegistered, "nothing begins any more")
	require.ErrorIs(t, g.Release(over()), ErrInUse)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { require.NoError(t, g.Release(soon(t))) })
	}
	time.Sleep(5 * time.Millisecond)
	require.Equal(t, 1, c.live())
	pieces[0].End()
	all.Wait()
	require.Zero(t, c.live())
	require.NoError(t, g.Release(over()))
}

func TestDetach(t *testing.T) {
	a, b := newCard("a"), newCard("b")
	r, devices := open(t, newMemory(3*slabSize), a, b)
	g, err := r.Register(4096, 4096, Options{})
	require.NoError(t, err)
	require.NoError(t, r.Warm(t.Context(), devices[0]))
	require.NoError(t, r.Warm(t.Context(), devices[1]))
	require.Equal(t, uint64(3*slabSize), r.Stats().SlabBytes)
	pieces, err := r.Acquire(devices[0], 4096, 1, nil)
	require.NoError(t, err)
	require.ErrorIs(t, r.Detach(over(), devices[0]), ErrInUse)
	require.Equal(t, 4, a.live())
	_, err = r.Acquire(devices[0], 4096, 1, nil)
	require.ErrorIs(t, err, ErrClosed)
	// A registration that waits for its transfers belongs to the device, too.
	require.ErrorIs(t, g.Release(over()), ErrInUse)
	other, err := r.Acquire(devices[1], 1<<40, 1, nil)
	require.NoError(t, err)
	time.AfterFunc(3*time.Millisecond, func() { pieces[0].End() })
	require.NoError(t, r.Detach(soon(t), devices[0]))
	require.NoError(t, r.Detach(over(), devices[0]))
	require.Zero(t, a.live())
	require.Equal(t, 4, b.live())
	other[0].End()
	require.NoError(t, g.Release(t.Context()))
	again, err := r.Attach(a)
	require.NoError(t, err)
	pieces, err = r.Acquire(again, 1<<40, 1, nil)
	require.NoError(t, err)
	pieces[0].End()
	require.Equal(t, 1, a.live())
}

// TestSlabs: both addresses lead to the slab, whose writer's address alone is registered, once, through a mapping of its own.
func TestSlabs(t *testing.T) {
	c := newCard("a")
	m := newMemory(2*slabSize + 4096)
	r, devices := open(t, m, c)
	require.Zero(t, c.count(), "a device that is not used registers nothing")
	for _, base := range []uintptr{m.reader, m.writer, m.reader} {
		pieces, err := r.Acquire(devices[0], base+slabSize-10, 30, nil)
		require.NoError(t, err)
		require.Len(t, pieces, 2)
		require.Equal(t, []uintptr{m.writer + slabSize - 10, m.writer + slabSize}, []uintptr{pieces[0].Addr, pieces[1].Addr})
		require.Equal(t, []uint64{10, 20}, []uint64{pieces[0].Size, pieces[1].Size})
		for i := range pieces {
			require.Equal(t, m.writer+uintptr(i)*slabSize, pieces[i].Region.(*region).as)
			require.Equal(t, uintptr(3<<40+i*slabSize), pieces[i].Region.(*region).at)
		}
		undo(pieces, 0)
	}
	require.Equal(t, 2, c.count())
	pieces, err := r.Acquire(devices[0], m.reader+2*slabSize, 4096, nil)
	require.NoError(t, err)
	require.Equal(t, uintptr(4096), pieces[0].Region.(*region).size)
	undo(pieces, 0)
	for _, n := range []uint64{4097, 1 << 62, ^uint64(0)} {
		_, err = r.Acquire(devices[0], m.reader+2*slabSize, n, nil)
		require.ErrorIs(t, err, ErrNotRegistered)
	}
	f, ok := r.Find(m.reader+77, 4)
	require.True(t, ok)
	require.Equal(t, Found{Store: true, Offset: 77}, f)
	require.Equal(t, uint64(2*slabSize+4096), r.Stats().SlabBytes)
	require.Zero(t, m.pinned.Load())
	huge := newMemory(3 << 30)
	huge.huge = true
	h, more := open(t, huge, newCard("h"))
	require.NoError(t, h.Warm(t.Context(), more[0]))
	require.Equal(t, uint64(3), h.Stats().Registered)
}

func TestSlabFails(t *testing.T) {
	c := newCard("a")
	m := newMemory(3 * slabSize)
	r, devices := open(t, m, c)
	_, err := r.Acquire(devices[0], m.reader, 1, nil)
	require.NoError(t, err)
	list := *r.slabs.list.Load()
	list[0].gate.leave()
	devices[0].gate.leave()
	c.fail.Store(&errCard)
	pieces, err := r.Acquire(devices[0], m.reader+5, 2*slabSize, make([]Piece, 0, 4))
	require.ErrorIs(t, err, errCard)
	require.Empty(t, pieces)
	require.ErrorIs(t, r.Warm(t.Context(), devices[0]), errCard)
	c.fail.Store(nil)
	m.fail.Store(true)
	_, err = r.Acquire(devices[0], m.reader+5, 2*slabSize, nil)
	require.ErrorIs(t, err, errNoMemory)
	m.fail.Store(false)
	require.ErrorIs(t, r.Warm(over(), devices[0]), context.Canceled)
	for i := range list {
		require.Zero(t, list[i].gate.inside())
	}
	require.Zero(t, devices[0].gate.inside())
	require.NoError(t, r.Warm(t.Context(), devices[0]))
}

// TestGuard: pages go only while their slab is not registered, and a transfer behind it registers again.
func TestGuard(t *testing.T) {
	c := newCard("a")
	m := newMemory(2 * slabSize)
	r, devices := open(t, m, c)
	plain := fakeRegistry(m)
	done, ok := plain.Guard(0, slabSize)
	require.True(t, ok, "without devices there is nothing to keep")
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		_, _ = plain.Attach(newCard("late"))
	}()
	select {
	case <-attached:
		t.Fatal("a device came while pages were given back")
	case <-time.After(5 * time.Millisecond):
	}
	done()
	<-attached

	require.NoError(t, r.Warm(t.Context(), devices[0]))
	pieces, err := r.Acquire(devices[0], m.reader+4096, 1, nil)
	require.NoError(t, err)
	_, ok = r.Guard(4096, 4096)
	require.False(t, ok, "a transfer is in flight")
	require.Equal(t, 2, c.live())
	done, ok = r.Guard(slabSize, 4096)
	require.True(t, ok, "the other slab has none")
	require.Equal(t, 1, c.live())
	got := make(chan []Piece)
	go func() {
		more, _ := r.Acquire(devices[0], m.writer+slabSize, 1, nil)
		got <- more
	}()
	select {
	case <-got:
		t.Fatal("registered while pages were given back")
	case <-time.After(5 * time.Millisecond):
	}
	done()
	undo(<-got, 0)
	require.Equal(t, 3, c.count())
	undo(pieces, 0)
	c.failDrop = errCard
	_, ok = r.Guard(0, 4096)
	require.False(t, ok, "who knows whether it is still registered")
	c.failDrop = nil
}

func TestCloseEndsWhatIsIdle(t *testing.T) {
	c := newCard("a")
	r, devices := open(t, newMemory(slabSize), c)
	idle, err := r.Register(4096, 4096, Options{})
	require.NoError(t, err)
	_, err = r.Register(1<<20, 4096, Options{})
	require.NoError(t, err)
	pieces, err := r.Acquire(devices[0], 1<<20, 1, nil)
	require.NoError(t, err)
	store, err := r.Acquire(devices[0], 1<<40, 1, nil)
	require.NoError(t, err)
	r.Close()
	require.NoError(t, idle.Release(over()))
	require.Equal(t, 2, c.live())
	_, err = r.Register(4096, 4096, Options{})
	require.ErrorIs(t, err, ErrClosed)
	_, err = r.Attach(c)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, r.CloseMemory(), ErrInUse)
	_, err = r.Acquire(devices[0], 1<<40, 1, nil)
	require.ErrorIs(t, err, ErrClosed)
	undo(store, 0)
	require.NoError(t, r.CloseMemory())
	undo(pieces, 0)
	_, err = r.Acquire(devices[0], 1<<40, 1, nil)
	require.ErrorIs(t, err, ErrClosed)
}

// TestSecondTransferDoesNothing: no registration and no allocation, from memory of the caller and of the store.
func TestSecondTransferDoesNothing(t *testing.T) {
	c := newCard("a")
	m := newMemory(slabSize)
	r, devices := open(t, m, c)
	_, err := r.Register(4096, 1<<20, Options{})
	require.NoError(t, err)
	room := make([]Piece, 0, 4)
	move := func() {
		for _, at := range []uintptr{8192, m.reader + 100} {
			pieces, err := r.Acquire(devices[0], at, 1000, room)
			if err != nil || len(pieces) != 1 {
				t.Fatal(err)
			}
			pieces[0].End()
		}
	}
	move()
	made := c.count()
	require.Zero(t, testing.AllocsPerRun(100, move))
	require.Equal(t, made, c.count())
}

// TestHammer: registrations come and go, slabs are given back and taken, a device comes and goes, transfers all the while;
// the fake device finds what is deregistered under a transfer.
func TestHammer(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cards := []*card{newCard("a"), newCard("b")}
	m := newMemory(4 * slabSize)
	r, devices := open(t, m, cards...)
	end := time.Now().Add(400 * time.Millisecond)
	var all sync.WaitGroup
	worker := func(n uint64, do func(*rand.Rand)) {
		all.Go(func() {
			for rng := rand.New(rand.NewPCG(seed, n)); time.Now().Before(end); {
				do(rng)
			}
		})
	}
	for n := range uint64(2) {
		worker(n, func(rng *rand.Rand) {
			g, err := r.Register(uintptr(1+rng.IntN(100))<<12, uint64(1+rng.IntN(40))<<12, Options{Lock: rng.IntN(2) == 0})
			require.NoError(t, err)
			for rng.IntN(3) == 0 {
				_ = g.Release(over())
			}
			require.NoError(t, g.Release(soon(t)))
		})
		worker(10+n, func(rng *rand.Rand) {
			at, size := uintptr(1+rng.IntN(100))<<12, uint64(1+rng.IntN(5000))
			if rng.IntN(2) == 0 {
				at, size = m.reader+uintptr(rng.Uint64N(m.size-2*slabSize)), rng.Uint64N(2*slabSize)
			}
			var room [4]Piece
			pieces, err := r.Acquire(devices[rng.IntN(2)], at, size, room[:0])
			if err != nil {
				require.ErrorIs(t, err, ErrNotRegistered)
			}
			for i := range pieces {
				transfer(t, pieces[i], at, size)
				pieces[i].End()
			}
		})
	}
	worker(20, func(rng *rand.Rand) {
		if done, ok := r.Guard(rng.Uint64N(4)*slabSize, slabSize); ok {
			done()
		}
	})
	worker(21, func(*rand.Rand) {
		a, err := r.Attach(cards[0])
		require.NoError(t, err)
		pieces, err := r.Acquire(a, m.reader, 10, nil)
		require.NoError(t, err)
		undo(pieces, 0)
		require.NoError(t, r.Detach(soon(t), a))
		r.Stats()
	})
	all.Wait()
}
