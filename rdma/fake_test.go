package rdma

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/rdma/rdmatest"
)

type fake = rdmatest.Fake

// provider gives the stand-in for libibverbs, with no fault set.
func provider(t testing.TB) *fake { return rdmatest.Provider(t) }

// TestMain fails when the tests have left verbs objects, descriptors or goroutines, or have done what must never be done.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	for wait := time.Millisecond; code == 0; wait *= 2 {
		left := leftovers(before)
		if left == "" {
			break
		}
		if wait > 2*time.Second {
			fmt.Fprintln(os.Stderr, "left behind:", left)
			code = 1
		}
		time.Sleep(wait)
	}
	rdmatest.Remove()
	os.Exit(code)
}

func leftovers(before int) (left string) {
	live := Live()
	live.Registrations, live.Deregistrations = 0, 0
	if live != (Counts{}) {
		left += fmt.Sprintf("%+v; ", live)
	}
	if n := registered.Load(); n != 0 {
		left += fmt.Sprintf("%d registered bytes; ", n)
	}
	left += rdmatest.Left()
	if n := descriptors(); n > before {
		left += fmt.Sprintf("%d descriptors instead of %d; ", n, before)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, g := range strings.Split(string(stacks), "\n\n")[1:] {
		if strings.Contains(g, "moorage/rdma") {
			left += g + "; "
		}
	}
	return left
}

// descriptors counts open files but those of Go's own poller.
func descriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "[eventpoll]") && !strings.Contains(to, "[eventfd]") {
			n++
		}
	}
	return n
}

// seeded is a random source whose seed is printed; MOORAGE_SEED repeats one.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("MOORAGE_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("MOORAGE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// memory maps n bytes that are unmapped at the end of the test.
func memory(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func open(t testing.TB, f *fake, device string, o DomainOptions) *Domain {
	t.Helper()
	lib, err := Load(f.Path)
	require.NoError(t, err)
	d, err := lib.Open(device, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		f.Reset()
		require.NoError(t, d.Close())
	})
	return d
}

func register(t testing.TB, d *Domain, b []byte, a Access) *Region {
	t.Helper()
	r, err := d.Register(addressOf(b), uintptr(len(b)), a)
	require.NoError(t, err)
	return r
}

// ends are the two ends of a control connection.
func ends(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	type accepted struct {
		c   net.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		got <- accepted{c, err}
	}()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	b := <-got
	require.NoError(t, b.err)
	return a, b.c
}

// connect connects two domains, a to b.
func connect(t testing.TB, a, b *Domain, oa, ob ConnOptions) (*Conn, *Conn) {
	t.Helper()
	ca, cb, erra, errb := tryConnect(t, a, b, oa, ob)
	require.NoError(t, erra)
	require.NoError(t, errb)
	return ca, cb
}

func tryConnect(t testing.TB, a, b *Domain, oa, ob ConnOptions) (ca, cb *Conn, erra, errb error) {
	t.Helper()
	na, nb := ends(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		cb, errb = b.Accept(context.Background(), nb, ob)
	}()
	ca, erra = a.Connect(context.Background(), na, oa)
	<-done
	return ca, cb, erra, errb
}

// pair is two connected domains; b has memory that a may read, and a has room for it.
type pair struct {
	f              *fake
	a, b           *Domain
	ab, ba         *Conn
	to, from       []byte
	target, source *Region
}

func newPair(t testing.TB, size int, o ConnOptions, configure func(*fake)) *pair {
	t.Helper()
	p := &pair{f: provider(t), to: memory(t, size), from: memory(t, size)}
	if configure != nil {
		configure(p.f)
	}
	p.a = open(t, p.f, "fake0", DomainOptions{Flush: 100 * time.Millisecond})
	p.b = open(t, p.f, "fake1", DomainOptions{Flush: 100 * time.Millisecond})
	fill(p.from)
	p.target, p.source = register(t, p.a, p.to, LocalTarget), register(t, p.b, p.from, RemoteRead)
	p.ab, p.ba = connect(t, p.a, p.b, o, ConnOptions{})
	return p
}

func fill(b []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// whole reads everything.
func (p *pair) whole() []Read {
	return []Read{{To: p.target, From: p.source.Remote(), Length: uint64(len(p.to))}}
}

// parts reads everything in reads of that many bytes.
func (p *pair) parts(size int) (reads []Read) {
	for at := 0; at < len(p.to); at += size {
		n := min(size, len(p.to)-at)
		reads = append(reads, Read{To: p.target, ToOffset: uint64(at), From: p.source.Remote(), FromOffset: uint64(at), Length: uint64(n)})
	}
	return reads
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits for a channel to be closed, but not for ever.
func await(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("still open after 10 s")
	}
}
