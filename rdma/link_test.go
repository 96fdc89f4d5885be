package rdma

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// linked is a link from a to a domain b that serves.
type linked struct {
	*pair
	link     *Link
	accepted atomic.Int64
	refuse   atomic.Bool
	last     atomic.Pointer[Conn]
}

func newLinked(t *testing.T, size int, o ConnOptions) *linked {
	t.Helper()
	l := &linked{pair: &pair{f: provider(t), to: memory(t, size), from: memory(t, size)}}
	l.a = open(t, l.f, "fake0", DomainOptions{Flush: 100 * time.Millisecond})
	l.b = open(t, l.f, "fake1", DomainOptions{Flush: 100 * time.Millisecond})
	fill(l.from)
	l.target, l.source = register(t, l.a, l.to, LocalTarget), register(t, l.b, l.from, RemoteRead)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- l.b.Serve(ctx, listener, ConnOptions{}, func(c *Conn) {
			l.last.Store(c)
			l.accepted.Add(1)
			select {
			case <-c.Broken():
			case <-ctx.Done():
			}
		}, nil)
	}()
	l.link, err = l.a.NewLink(func(ctx context.Context) (net.Conn, error) {
		if l.refuse.Load() {
			return nil, errors.New("no route")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	}, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, l.link.Close())
		cancel()
		require.ErrorIs(t, <-served, context.Canceled)
	})
	return l
}

func TestLinkReconnects(t *testing.T) {
	l := newLinked(t, 64<<10, ConnOptions{})
	require.Zero(t, l.link.Dials(), "nothing is dialed before it is needed")
	for i := range 5 {
		clear(l.to)
		require.NoError(t, l.link.Read(within(t, 10*time.Second), l.parts(1<<10)))
		require.Equal(t, l.from, l.to)
		require.Equal(t, i+1, l.link.Dials())
		require.Eventually(t, func() bool { return l.accepted.Load() == int64(i+1) }, 5*time.Second, time.Millisecond)
		c, err := l.link.Conn(t.Context())
		require.NoError(t, err)
		switch i % 3 {
		case 0:
			_ = l.last.Load().Close()
		case 1:
			_ = c.control.Close()
		case 2:
			wrong := l.whole()
			wrong[0].From.RKey++
			require.ErrorIs(t, l.link.Read(within(t, time.Second), wrong), ErrRemoteAccess, "not tried again")
		}
		await(t, c.Broken())
	}
}

// A failure under way: the read is carried out over a new connection.
func TestLinkReadsAgain(t *testing.T) {
	l := newLinked(t, 64<<10, ConnOptions{})
	for _, status := range []int64{12, 13, 11} {
		l.f.Set(t, "fail_after", 7)
		l.f.Set(t, "fail_status", status)
		clear(l.to)
		require.NoError(t, l.link.Read(within(t, 10*time.Second), l.parts(1<<10)))
		require.Equal(t, l.from, l.to)
	}
	require.Equal(t, 4, l.link.Dials())
}

func TestLinkPausesBetweenAttempts(t *testing.T) {
	l := newLinked(t, 4096, ConnOptions{Timeout: 200 * time.Millisecond})
	l.refuse.Store(true)
	err := l.link.Read(context.Background(), l.whole())
	require.Error(t, err)
	require.Less(t, l.link.Dials(), 10, "10, 20, 40, 80 ms")
	l.refuse.Store(false)
	require.NoError(t, l.link.Read(within(t, 10*time.Second), l.whole()))
}

func TestLinkDialsOnceForMany(t *testing.T) {
	l := newLinked(t, 64<<10, ConnOptions{})
	var all sync.WaitGroup
	for _, r := range l.parts(4 << 10) {
		all.Go(func() {
			if err := l.link.Read(within(t, 10*time.Second), []Read{r}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, l.from, l.to)
	require.Equal(t, 1, l.link.Dials())
}

func TestClosedLink(t *testing.T) {
	l := newLinked(t, 4096, ConnOptions{})
	require.NoError(t, l.link.Read(within(t, time.Second), l.whole()))
	require.NoError(t, l.link.Close())
	require.NoError(t, l.link.Close())
	require.ErrorIs(t, l.link.Read(within(t, time.Second), l.whole()), ErrClosed)
}

// Connections come and go under load; every read ends, and whatever says it succeeded has copied the bytes.
func TestLinkHammer(t *testing.T) {
	l := newLinked(t, 256<<10, ConnOptions{QueuePairs: 2, Depth: 16})
	r := seeded(t)
	l.f.Set(t, "delay_us", 20)
	stop := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(1+r.IntN(5)) * time.Millisecond):
			}
			if c := l.last.Load(); c != nil && r.IntN(2) == 0 {
				c.fail(ErrPeerLost)
			} else {
				l.f.Set(t, "fail_status", 12)
			}
		}
	})
	var readers sync.WaitGroup
	for w := range 4 {
		mine := l.parts(1 << 10)[w*64 : w*64+64]
		readers.Go(func() {
			for range 30 {
				bytes := l.to[w<<16 : w<<16+1<<16]
				clear(bytes)
				if err := l.link.Read(within(t, 30*time.Second), mine); err != nil {
					t.Error(err)
					return
				}
				if string(bytes) != string(l.from[w<<16:w<<16+1<<16]) {
					t.Error("bytes are missing after a read that succeeded")
					return
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	trouble.Wait()
	require.Greater(t, l.link.Dials(), 1)
}
