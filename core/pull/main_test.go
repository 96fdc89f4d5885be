package pull_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core"
	"moorage/core/pull"
	"moorage/core/registry"
	"moorage/core/verbs"
	"moorage/rdma"
	"moorage/rdma/rdmatest"
)

// TestMain fails when the tests have left anything of a card, or have done what must never be done.
func TestMain(m *testing.M) {
	if role := os.Getenv(quietEnv); role != "" {
		beQuiet(role)
	}
	code := m.Run()
	for wait := time.Millisecond; code == 0; wait *= 2 {
		left := rdma.Live()
		left.Registrations, left.Deregistrations = 0, 0
		s := rdmatest.Left()
		if s == "" && left == (rdma.Counts{}) {
			break
		}
		if wait > 2*time.Second {
			fmt.Fprintf(os.Stderr, "left behind: %s %+v\n", s, left)
			code = 1
		}
		time.Sleep(wait)
	}
	rdmatest.Remove()
	os.Exit(code)
}

// node is a store with a card.
type node struct {
	store *core.Store
	card  *verbs.Device
	at    *registry.Attached
	*pull.Endpoint
}

const capacity = 16 << 20

func openNode(name string, o pull.Options, d verbs.Options) (*node, error) {
	s, err := core.Open(core.Options{Capacity: capacity})
	if err != nil {
		return nil, err
	}
	n := &node{store: s}
	if n.card, err = verbs.Open(name, d); err != nil {
		return nil, errors.Join(err, s.Close(true))
	}
	if n.at, err = s.Attach(n.card); err != nil {
		return nil, errors.Join(err, n.card.Close(), s.Close(true))
	}
	n.Endpoint, err = pull.New(s.Registry(), n.at, o)
	return n, err
}

func newNode(t *testing.T, name string, o pull.Options) *node {
	t.Helper()
	n, err := openNode(name, o, verbs.Options{Flush: 100 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, n.Endpoint.Close(within(t, 5*time.Second)))
		contexts := rdma.Live().Contexts
		require.NoError(t, n.store.Close(true))
		// The card goes with the last view, behind the call; faults of the next test are not for it.
		require.Eventually(t, func() bool { return rdma.Live().Contexts < contexts }, 5*time.Second, time.Millisecond)
	})
	return n
}

// limit is a setting of the stand-in for libibverbs.
type limit struct {
	name  string
	value int64
}

// world is two nodes with a connection: mine pulls from theirs.
type world struct {
	f            *rdmatest.Fake
	mine, theirs *node
	conn, back   *rdma.Conn
}

func newWorld(t *testing.T, mine, theirs pull.Options, limits ...limit) *world {
	t.Helper()
	w := &world{f: provider(t)}
	for _, l := range limits {
		w.f.Set(t, l.name, l.value)
	}
	w.mine, w.theirs = newNode(t, "fake0", mine), newNode(t, "fake1", theirs)
	w.connect(t)
	t.Cleanup(w.f.Reset) // before the nodes are closed
	return w
}

func provider(t *testing.T) *rdmatest.Fake {
	t.Helper()
	f := rdmatest.Provider(t)
	t.Setenv("MOORAGE_LIBIBVERBS", f.Path)
	return f
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	var err error
	w.conn, w.back, err = connect(w.mine, w.theirs)
	require.NoError(t, err)
}

// wire counts what is said on a control connection.
type wire struct {
	net.Conn
	said *atomic.Int64
}

func (w wire) Write(b []byte) (int, error) {
	w.said.Add(int64(len(b)))
	return w.Conn.Write(b)
}

var said atomic.Int64

func connect(a, b *node) (ab, ba *rdma.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		control, err := l.Accept()
		if err == nil {
			ba, err = b.card.Domain().Accept(context.Background(), wire{control, &said}, rdma.ConnOptions{})
		}
		done <- err
	}()
	control, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	ab, err = a.card.Domain().Connect(context.Background(), wire{control, &said}, rdma.ConnOptions{})
	return ab, ba, errors.Join(err, <-done)
}

// transfer has mine pull all of an offer, window by window.
func (w *world) transfer(ctx context.Context, from, into []pull.Slice) (sent, got pull.Report, err error) {
	offer, err := w.theirs.Offer(from, 1)
	if err != nil {
		return sent, got, err
	}
	sink, err := w.mine.Sink(into, 1)
	if err != nil {
		return sent, got, errors.Join(err, offer.Close())
	}
	for {
		window, e := offer.Next(ctx)
		if e == io.EOF {
			break
		}
		if err = e; err == nil {
			err = sink.Pull(ctx, w.conn, window)
		}
		if err != nil {
			break
		}
	}
	sent, got = offer.Report(), sink.Report()
	return sent, got, errors.Join(err, offer.Close(), sink.Close())
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func fill(b []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// memory maps n bytes, somewhere in a page, until the end of the test.
func memory(t *testing.T, n int) []byte {
	t.Helper()
	const skew = 24
	b, err := unix.Mmap(-1, 0, n+skew+1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b[skew : skew+n]
}

func slice(b []byte) pull.Slice { return pull.Slice{Addr: addressOf(b), Size: uint64(len(b))} }

// object is memory of a store with some bytes under a name, viewed until the end of the test.
func (n *node) object(t *testing.T, key string, data []byte) pull.Slice {
	t.Helper()
	_, err := n.store.Put([]byte(key), data, core.PutOptions{})
	require.NoError(t, err)
	v, err := n.store.Get([]byte(key))
	require.NoError(t, err)
	t.Cleanup(func() { v.Release() })
	return pull.Slice{Addr: v.Addr(), Size: v.Size()}
}

// room is a reservation, and what lies in it.
func (n *node) room(t *testing.T, size int) (pull.Slice, []byte) {
	t.Helper()
	r, err := n.store.Reserve(uint64(size))
	require.NoError(t, err)
	t.Cleanup(r.Abort)
	return pull.Slice{Addr: r.Addr(), Size: uint64(size), Reserved: true}, bytesAt(r.Addr(), size)
}

// registered is memory that a store's caller has registered until the end of the test.
func (n *node) registered(t *testing.T, b []byte) pull.Slice {
	t.Helper()
	g, err := n.store.Register(addressOf(b), uint64(len(b)), registry.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, core.Unregister(within(t, 5*time.Second), g)) })
	return slice(b)
}
