package core

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/arena"
	"moorage/core/registry"
	"moorage/core/tensor"
)

// counted is a device that registers nothing and counts.
type counted struct{ made, live atomic.Int64 }

func (c *counted) Name() string { return "counted" }

func (c *counted) Register(_, _, _ uintptr, _ registry.Use) (registry.Region, error) {
	c.made.Add(1)
	c.live.Add(1)
	return c, nil
}

func (c *counted) Deregister() error { c.live.Add(-1); return nil }

func fetch(t *testing.T, s *Store, r *ring, a *registry.Attached, key string) []byte {
	t.Helper()
	v := get(t, s, key)
	defer v.Release()
	pieces, err := s.Registry().Acquire(a, v.Addr(), v.Size(), nil)
	require.NoError(t, err)
	var all []byte
	for i := range pieces {
		all = append(all, r.send(t, pieces[i])...)
		pieces[i].End()
	}
	return all
}

// TestTrimUnderADevice: trim, write again, transfer: the other side sees the new bytes. Without deregistering before pages
// are given back it sees the old ones, and nobody is told.
func TestTrimUnderADevice(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20})
	r := openRing(t)
	a, err := s.Attach(r)
	require.NoError(t, err)
	old, fresh := bytes.Repeat([]byte("old "), 50_000), bytes.Repeat([]byte("new "), 50_000)
	put(t, s, "k", old)
	require.Equal(t, old, fetch(t, s, r, a, "k"))
	require.Equal(t, uint64(1<<20), stats(t, s).Registered.SlabBytes)

	require.NoError(t, s.Remove([]byte("k")))
	freed, err := s.Trim()
	require.NoError(t, err)
	require.GreaterOrEqual(t, freed, uint64(len(old)))
	require.Zero(t, stats(t, s).Resident)
	require.Zero(t, stats(t, s).Registered.SlabBytes)
	put(t, s, "k", fresh)
	require.Equal(t, fresh, fetch(t, s, r, a, "k"))

	// While a transfer is in flight, nothing is given back.
	v := get(t, s, "k")
	pieces, err := s.Registry().Acquire(a, v.Addr(), 4, nil)
	require.NoError(t, err)
	_, err = s.Trim()
	require.NoError(t, err)
	require.Zero(t, stats(t, s).FreeCold)
	require.Equal(t, []byte("new "), r.send(t, pieces[0]))
	pieces[0].End()
	v.Release()
}

// TestDeviceSeesWhatIsProtected: what a producer published is read-only in the writer's mapping, and its page tables may be
// in the park. A slab is registered all the same, before and after.
func TestDeviceSeesWhatIsProtected(t *testing.T) {
	s := open(t, Options{Capacity: 8 << 20})
	r := openRing(t)
	a, err := s.Attach(r)
	require.NoError(t, err)
	produce := func(key string, fill byte) []byte {
		w, err := s.Reserve(2 << 20)
		require.NoError(t, err)
		data := bytes.Repeat([]byte{fill}, 2<<20)
		tensor.CopyGo(w.Addr(), placeOf(&data[0]), uintptr(len(data)))
		_, err = w.Commit([]byte(key), tensor.DType{}, nil, PutOptions{})
		require.NoError(t, err)
		return data
	}
	before := produce("before", 1)
	require.Equal(t, before, fetch(t, s, r, a, "before"))
	after := produce("after", 2)
	require.Equal(t, after, fetch(t, s, r, a, "after"))
	require.Equal(t, uint64(1), s.Registry().Stats().Registered)
}

// TestLocalCallsRegisterNothing: whoever puts and gets in a store with a device does not meet it.
func TestLocalCallsRegisterNothing(t *testing.T) {
	s := open(t, Options{})
	c := &counted{}
	_, err := s.Attach(c)
	require.NoError(t, err)
	put(t, s, "k", make([]byte, 1<<20))
	src := tensor.Source{DType: tensor.DType{Code: 2, Bits: 32, Lanes: 1}, Shape: []int64{4}}
	data := make([]byte, 16)
	src.Base = placeOf(&data[0])
	_, err = s.PutTensor([]byte("t"), src, PutOptions{})
	require.NoError(t, err)
	for _, key := range []string{"k", "t"} {
		v := get(t, s, key)
		v.Release()
	}
	require.Zero(t, c.made.Load())
	_, err = s.Trim()
	require.NoError(t, err)
	require.Zero(t, c.made.Load())
}

// TestAttachInTheBackground: a store whose memory is prefaulted is registered ahead of its use.
func TestAttachInTheBackground(t *testing.T) {
	s := open(t, Options{Capacity: 130 << 20, Prefault: arena.PrefaultBackground})
	c := &counted{}
	_, err := s.Attach(c)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.live.Load() == 3 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Close(true))
	require.Eventually(t, func() bool { return c.live.Load() == 0 }, 10*time.Second, time.Millisecond)
}

func TestRegisterInAStore(t *testing.T) {
	s := open(t, Options{})
	c := &counted{}
	a, err := s.Attach(c)
	require.NoError(t, err)
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(b)) }()
	at := placeOf(&b[0])
	g, err := s.Register(at, 1<<20, registry.Options{})
	require.NoError(t, err)
	f, err := s.FindRegistered(at+10, 100)
	require.NoError(t, err)
	require.Equal(t, g, f.Registration)
	_, err = s.FindRegistered(at+10, 1<<20)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.Register(s.Region().ReaderAddr(0), 10, registry.Options{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Register(4096, 4096, registry.Options{})
	require.ErrorIs(t, err, ErrInvalid)
	require.Equal(t, uint64(1<<20), stats(t, s).Registered.Bytes)

	pieces, err := s.Registry().Acquire(a, at, 10, nil)
	require.NoError(t, err)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Unregister(now, g), ErrTimeout)
	idle, err := s.Register(at, 10, registry.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close(true))
	require.Equal(t, int64(1), c.live.Load(), "what is in flight stays, the rest goes with the store")
	require.NoError(t, Unregister(now, idle))
	_, err = s.Register(at, 10, registry.Options{})
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.FindRegistered(at, 10)
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.Attach(c)
	require.ErrorIs(t, err, ErrClosed)
	pieces[0].End()
	require.NoError(t, Unregister(t.Context(), g))
	require.Zero(t, c.live.Load())
}

// TestLocksOfTwoStores: the kernel does not count locks, so the stores of a process do together.
func TestLocksOfTwoStores(t *testing.T) {
	one, two := open(t, Options{}), open(t, Options{})
	b, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(b)) }()
	g, err := one.Register(placeOf(&b[0]), 64<<10, registry.Options{Lock: true})
	if err != nil && strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
		t.Skipf("probed mlock of 64 KiB: %v", err)
	}
	require.NoError(t, err)
	h, err := two.Register(placeOf(&b[0]), 64<<10, registry.Options{Lock: true})
	require.NoError(t, err)
	require.NoError(t, Unregister(t.Context(), g))
	require.Equal(t, unix.EBUSY, invalidate(t, placeOf(&b[0])), "the pages are unlocked although the other store has them")
	require.NoError(t, Unregister(t.Context(), h))
	require.Zero(t, invalidate(t, placeOf(&b[0])))
}

// invalidate is EBUSY for a page that is locked.
func invalidate(t *testing.T, at uintptr) unix.Errno {
	t.Helper()
	_, _, errno := unix.Syscall(unix.SYS_MSYNC, at, 4096, unix.MS_INVALIDATE)
	return errno
}

// TestUnmapUnderADevice: a transfer that holds no view, which is a bug of its caller, keeps the memory mapped.
func TestUnmapUnderADevice(t *testing.T) {
	s, err := Open(Options{Capacity: 1 << 20})
	require.NoError(t, err)
	a, err := s.Attach(&counted{})
	require.NoError(t, err)
	pieces, err := s.Registry().Acquire(a, s.Region().WriterAddr(0), 4096, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close(true))
	require.Eventually(t, s.isUnmapped, 10*time.Second, time.Millisecond)
	s.drains.mu.Lock() // so it has been tried
	mapped := leftRegions()
	s.drains.mu.Unlock()
	require.NotZero(t, mapped)
	pieces[0].End()
	require.NoError(t, s.unmap())
}

// closing is a device that can be closed.
type closing struct {
	counted
	closed atomic.Int64
	left   int64 // that were registered when it was closed
}

func (c *closing) Close() error {
	c.left = c.live.Load()
	c.closed.Add(1)
	return nil
}

// TestDevicesGoWithTheStore: a device is closed when it is detached, else behind the last view, and not before what is registered
// with it has been deregistered. One that was refused is left alone.
func TestDevicesGoWithTheStore(t *testing.T) {
	s, err := Open(Options{Capacity: 1 << 20})
	require.NoError(t, err)
	one, two, late := &closing{}, &closing{}, &closing{}
	first, err := s.Attach(one)
	require.NoError(t, err)
	second, err := s.Attach(two)
	require.NoError(t, err)
	put(t, s, "k", make([]byte, 100))
	v := get(t, s, "k")
	for _, a := range []*registry.Attached{first, second} {
		pieces, err := s.Registry().Acquire(a, v.Addr(), v.Size(), nil)
		require.NoError(t, err)
		if a == first {
			now, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, s.Detach(now, first), ErrTimeout)
			require.Zero(t, one.closed.Load())
		}
		pieces[0].End()
	}
	require.NoError(t, s.Detach(t.Context(), first))
	require.NoError(t, s.Detach(t.Context(), first))
	require.EqualValues(t, 1, one.closed.Load())
	require.Zero(t, one.left)

	require.NoError(t, s.Close(true))
	require.Zero(t, two.closed.Load(), "a view may be in a transfer")
	_, err = s.Attach(late)
	require.ErrorIs(t, err, ErrClosed)
	v.Release()
	require.Eventually(t, func() bool { return two.closed.Load() == 1 }, 10*time.Second, time.Millisecond)
	require.Zero(t, two.left)
	require.NoError(t, s.Detach(t.Context(), second))
	require.EqualValues(t, 1, two.closed.Load())
	require.Zero(t, late.closed.Load())
}
