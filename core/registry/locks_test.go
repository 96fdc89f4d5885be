package registry

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pageKernel is a kernel that knows of each page whether it is locked, and does not count.
type pageKernel struct {
	locked map[uintptr]bool
	fail   error
	half   bool // comes half of the way before it fails
}

func (k *pageKernel) kernel() kernel {
	s := anywhere()
	s.mlock = func(addr, n uintptr) error {
		for p := addr; p < addr+n; p += 4096 {
			if k.fail != nil && (!k.half || p+4096 >= addr+n) {
				return k.fail
			}
			k.locked[p] = true
		}
		return nil
	}
	s.munlock = func(addr, n uintptr) error {
		for p := addr; p < addr+n; p += 4096 {
			delete(k.locked, p)
		}
		return nil
	}
	return s
}

// TestLocksAgainstModel: a page is locked exactly as long as a range that touches it is, also when locking fails half way.
func TestLocksAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	k := &pageKernel{locked: map[uintptr]bool{}}
	l := &Locks{sys: k.kernel()}
	count := map[uintptr]int{}
	add := func(p pages, by int) {
		for at := p.start; at < p.end; at += 4096 {
			if count[at] += by; count[at] == 0 {
				delete(count, at)
			}
		}
	}
	var all []pages
	for range 3000 {
		if len(all) > 20 || len(all) > 0 && rng.IntN(3) == 0 {
			i := rng.IntN(len(all))
			require.NoError(t, l.unlock(all[i]))
			add(all[i], -1)
			all = append(all[:i], all[i+1:]...)
		} else {
			k.fail, k.half = nil, rng.IntN(2) == 0
			if rng.IntN(5) == 0 {
				k.fail = unix.EAGAIN
			}
			p, err := l.lock(uintptr(1+rng.IntN(100<<12)), uintptr(1+rng.IntN(30<<12)))
			if k.fail != nil {
				require.ErrorIs(t, err, unix.EAGAIN)
			} else {
				require.NoError(t, err)
				add(p, 1)
				all = append(all, p)
			}
		}
		require.Len(t, k.locked, len(count))
		for at := range count {
			require.True(t, k.locked[at])
		}
	}
}

// TestLockForReal asks the kernel what is locked.
func TestLockForReal(t *testing.T) {
	const n = 256 << 10
	at := mapped(t, n)
	r := New(NewLocks(), nil)
	before, _ := memoryHeld()
	outer, err := r.Register(at, n, Options{Lock: true})
	if err != nil {
		t.Skipf("probed mlock of %d bytes: %v", n, err)
	}
	held, _ := memoryHeld()
	require.Equal(t, before+n, held)
	inner, err := r.Register(at+1000, 100, Options{Lock: true})
	require.NoError(t, err)
	require.NoError(t, outer.Release(t.Context()))
	held, _ = memoryHeld()
	require.Equal(t, before+4096, held, "the page that another registration covers stays")
	require.Equal(t, uint64(100), r.Stats().LockedBytes)
	require.NoError(t, inner.Release(t.Context()))
	held, _ = memoryHeld()
	require.Equal(t, before, held)
}

func TestMemlockSaysWhatIsMissing(t *testing.T) {
	for _, errno := range []error{unix.ENOMEM, unix.EPERM} {
		s := anywhere()
		s.mlock = func(uintptr, uintptr) error { return errno }
		s.used = func() (uint64, uint64) { return 600 << 10, 100 << 10 }
		r := New(&Locks{sys: s}, nil)
		_, err := r.Register(4096, 400<<10, Options{Lock: true})
		require.ErrorIs(t, err, ErrMemlock)
		require.ErrorIs(t, err, errno)
		var m *MemlockError
		require.ErrorAs(t, err, &m)
		require.Equal(t, MemlockError{Limit: 1 << 20, Asked: 400 << 10, Locked: 600 << 10, Pinned: 100 << 10}, *m)
		require.ErrorContains(t, err, "limit is 1048576 bytes, 409600 were asked for, 614400 are locked and 102400 pinned")
		require.Zero(t, r.Stats().Registrations)
		// The limit is not why.
		_, err = r.Register(4096, 8<<10, Options{Lock: true})
		require.NotErrorIs(t, err, ErrMemlock)
		require.ErrorIs(t, err, ErrSystem)
	}
}

func TestUnlockFails(t *testing.T) {
	s := anywhere()
	var errno error
	s.munlock = func(uintptr, uintptr) error { return errno }
	r := New(&Locks{sys: s}, nil)
	for _, errno = range []error{unix.ENOMEM, unix.EINVAL} {
		g, err := r.Register(4096, 1, Options{Lock: true})
		require.NoError(t, err)
		err = g.Release(t.Context())
		if errno == unix.ENOMEM { // the caller unmapped it before: nothing to unlock
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, unix.EINVAL)
			require.Equal(t, err, g.Release(t.Context()))
		}
		require.Zero(t, r.Stats().Registrations)
	}
}
