//go:build linux

package rdma_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/rdma"
)

// world is what the peer's slab holds.
func world(seed uint64) []byte {
	b := make([]byte, peerSize)
	pattern(b, seed)
	return b
}

func TestDevices(t *testing.T) {
	devices, err := library(t).Devices()
	require.NoError(t, err)
	require.NotEmpty(t, devices)
	for _, d := range devices {
		require.NoError(t, d.Err)
		t.Logf("%+v", d)
	}
}

// Every size, also beyond one message; what is read is what the peer has, and nothing is registered on the way.
func TestReads(t *testing.T) {
	d, p, want := open(t, rdma.DomainOptions{}), startPeer(t), world(1)
	c, from := p.connect(d, rdma.ConnOptions{}), p.describe()
	to := memory(t, peerSize)
	target := register(t, d, to)
	counts, theirs := rdma.Live(), p.ask("counts")
	for _, n := range []int{1, 7, 4095, 4096, 64<<10 + 1, 1 << 20, peerSize} {
		at := (peerSize - n) / 3
		clear(to)
		began := time.Now()
		require.NoError(t, c.Read(within(t, 20*time.Second), []rdma.Read{
			{To: target, ToOffset: uint64(at), From: from, FromOffset: uint64(at), Length: uint64(n)}}))
		t.Logf("%d bytes: %v", n, time.Since(began))
		require.True(t, string(want[at:at+n]) == string(to[at:at+n]), "%d bytes", n)
		require.True(t, at == 0 || to[at-1] == 0 && to[at+n] == 0, "a byte beside the target was written")
	}
	require.Equal(t, counts, rdma.Live(), "a transfer from registered memory registers nothing")
	require.Equal(t, theirs, p.ask("counts"), "nor does the peer")
}

func TestManySmallReads(t *testing.T) {
	for name, o := range map[string]struct {
		domain rdma.DomainOptions
		conn   rdma.ConnOptions
	}{
		"polling":             {rdma.DomainOptions{}, rdma.ConnOptions{}},
		"events alone":        {rdma.DomainOptions{Spin: -1}, rdma.ConnOptions{Depth: 16}},
		"several queue pairs": {rdma.DomainOptions{}, rdma.ConnOptions{QueuePairs: 3, Depth: 32}},
	} {
		t.Run(name, func(t *testing.T) {
			d, p, want := open(t, o.domain), startPeer(t), world(1)
			c, from := p.connect(d, o.conn), p.describe()
			const n, size = 500, 2048
			to := memory(t, n*size)
			target := register(t, d, to)
			var reads []rdma.Read
			for i := range n { // backwards, so that a mistake in order shows
				reads = append(reads, rdma.Read{To: target, ToOffset: uint64(i * size), From: from,
					FromOffset: uint64((n - 1 - i) * size), Length: size})
			}
			b, err := c.Submit(within(t, 30*time.Second), reads)
			require.NoError(t, err)
			require.NoError(t, b.Wait(within(t, 30*time.Second)))
			for i := range n {
				at := (n - 1 - i) * size
				require.True(t, string(want[at:at+size]) == string(to[i*size:(i+1)*size]), "read %d", i)
			}
		})
	}
}

// The ways to a target: registered before, registered for one transfer, through a bounce buffer, into a slab of a store.
func TestTargets(t *testing.T) {
	d, p, want := open(t, rdma.DomainOptions{}), startPeer(t), world(1)
	c, from := p.connect(d, rdma.ConnOptions{}), p.describe()
	const n = 3 << 20
	before := rdma.Live()

	for range 3 { // on the fly
		b := memory(t, n)
		r := register(t, d, b)
		require.NoError(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: r, From: from, Length: n}}))
		require.NoError(t, r.Close(within(t, time.Second)))
		require.True(t, string(want[:n]) == string(b))
	}
	require.Equal(t, before.Registrations+3, rdma.Live().Registrations)
	require.Equal(t, before.MRs, rdma.Live().MRs)

	bounce := memory(t, 256<<10)
	r := register(t, d, bounce)
	heap := make([]byte, n) // which must never be registered
	for at := 0; at < n; at += len(bounce) {
		require.NoError(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: r, From: from, FromOffset: uint64(at), Length: uint64(len(bounce))}}))
		copy(heap[at:], bounce)
	}
	require.True(t, string(want[:n]) == string(heap))
	require.Equal(t, before.Registrations+4, rdma.Live().Registrations)

	file, err := unix.MemfdCreate("slab", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(file)
	require.NoError(t, unix.Ftruncate(file, n))
	writer, err := unix.Mmap(file, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	reader, err := unix.Mmap(file, 0, n, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	slab := register(t, d, writer)
	require.NoError(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: slab, From: from, Length: n}}))
	require.True(t, string(want[:n]) == string(reader), "seen through the other mapping")
	require.NoError(t, slab.Close(within(t, time.Second)))
	require.NoError(t, errors.Join(unix.Munmap(writer), unix.Munmap(reader)))
}

// Pages that were given back and written again: deregistered and registered in between, the peer sees the new bytes.
func TestTrimAndWriteAgain(t *testing.T) {
	d, p := open(t, rdma.DomainOptions{}), startPeer(t)
	c, from := p.connect(d, rdma.ConnOptions{}), p.describe()
	to := memory(t, 1<<20)
	target := register(t, d, to)
	require.NoError(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: from, Length: 1 << 20}}))
	require.True(t, string(world(1)[:1<<20]) == string(to))
	p.ask("trim")
	require.NoError(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: p.describe(), Length: 1 << 20}}))
	require.True(t, string(world(2)[:1<<20]) == string(to))
	require.ErrorIs(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: from, Length: 1 << 20}}), rdma.ErrRemoteAccess,
		"what was described before")
}

func TestWrongKeys(t *testing.T) {
	d, p, want := open(t, rdma.DomainOptions{}), startPeer(t), world(1)
	from := p.describe()
	to := memory(t, 1<<20)
	target := register(t, d, to)
	link, err := d.NewLink(p.dial, rdma.ConnOptions{})
	require.NoError(t, err)
	defer link.Close()
	for name, spoil := range map[string]func(*rdma.RemoteRegion){
		"key":    func(r *rdma.RemoteRegion) { r.RKey ^= 0x5500 },
		"beyond": func(r *rdma.RemoteRegion) { r.Addr += peerSize - 100 },
		"before": func(r *rdma.RemoteRegion) { r.Addr -= 4096 },
	} {
		wrong := from
		spoil(&wrong)
		c, err := link.Conn(within(t, 20*time.Second))
		require.NoError(t, err)
		clear(to)
		err = link.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: wrong, Length: 1 << 20}})
		require.ErrorIs(t, err, rdma.ErrRemoteAccess, name)
		<-c.Gone()
		require.NoError(t, link.Read(within(t, 20*time.Second), []rdma.Read{{To: target, From: from, Length: 1 << 20}}), "over a new connection")
		require.True(t, string(want[:1<<20]) == string(to))
	}
	p.ask("deregister")
	require.ErrorIs(t, link.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: from, Length: 4096}}), rdma.ErrRemoteAccess)
	p.ask("register")
	require.NoError(t, link.Read(within(t, 20*time.Second), []rdma.Read{{To: target, From: p.describe(), Length: 4096}}))
}

func TestStaleEpoch(t *testing.T) {
	d := open(t, rdma.DomainOptions{})
	from := startPeer(t).describe()
	c := startPeer(t).connect(d, rdma.ConnOptions{})
	target := register(t, d, memory(t, 4096))
	require.ErrorIs(t, c.Read(within(t, 10*time.Second), []rdma.Read{{To: target, From: from, Length: 4096}}), rdma.ErrStale)
	require.NoError(t, c.Err(), "nothing was sent")
}

// proxy carries a control connection and keeps our end open when the other dies, so that only the card can notice.
func proxy(t *testing.T, p *peer) net.Conn {
	mine, ours := net.Pipe()
	theirs, err := p.dial(within(t, 5*time.Second))
	require.NoError(t, err)
	go func() { _, _ = io.Copy(theirs, ours) }()
	go func() { _, _ = io.Copy(ours, theirs) }()
	t.Cleanup(func() { _ = errors.Join(ours.Close(), theirs.Close()) })
	return mine
}

// A peer that is killed: reads end with an error in time, and the memory can be used again. Once the card notices, once the control
// connection does.
func TestKilledPeer(t *testing.T) {
	for _, byCard := range []bool{true, false} {
		d, p := open(t, rdma.DomainOptions{}), startPeer(t)
		from := p.describe()
		var c *rdma.Conn
		if byCard {
			var err error
			c, err = d.Connect(within(t, 20*time.Second), proxy(t, p), rdma.ConnOptions{})
			require.NoError(t, err)
		} else {
			c = p.connect(d, rdma.ConnOptions{})
		}
		to := memory(t, 4<<20)
		target := register(t, d, to)
		read := []rdma.Read{{To: target, From: from, Length: 4 << 20}}
		require.NoError(t, c.Read(within(t, 10*time.Second), read))
		p.kill()
		_ = p.cmd.Wait()
		began := time.Now()
		var err error
		for err == nil { // until the kernel has taken the peer's queue pairs down
			err = c.Read(within(t, 10*time.Second), read)
		}
		t.Logf("noticed after %v: %v", time.Since(began), err)
		require.True(t, errors.Is(err, rdma.ErrPeerLost) || errors.Is(err, rdma.ErrFlushed), "%v", err)
		require.True(t, rdma.Retryable(err))
		<-c.Gone()
		require.NoError(t, target.Close(within(t, time.Second)))
	}
}

// A region is not deregistered under reads that go there.
func TestDeregistrationWaitsForReads(t *testing.T) {
	d, p, want := open(t, rdma.DomainOptions{}), startPeer(t), world(1)
	c, from := p.connect(d, rdma.ConnOptions{}), p.describe()
	to := memory(t, peerSize)
	target := register(t, d, to)
	var reads []rdma.Read
	for at := uint64(0); at < peerSize; at += 64 << 10 {
		reads = append(reads, rdma.Read{To: target, ToOffset: at, From: from, FromOffset: at, Length: 64 << 10})
	}
	b, err := c.Submit(within(t, 30*time.Second), reads)
	require.NoError(t, err)
	require.NoError(t, target.Close(within(t, 30*time.Second)))
	select {
	case <-b.Done():
	default:
		t.Fatal("deregistered under a read")
	}
	require.NoError(t, b.Wait(context.Background()))
	require.True(t, string(want) == string(to))
}

func TestRegistrationStorm(t *testing.T) {
	d := open(t, rdma.DomainOptions{})
	b := memory(t, 8<<20)
	before := rdma.Live()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 50 {
				at := (w*50 + i) * 4096
				r, err := d.Register(addressOf(b[at:]), 1<<20, rdma.LocalTarget|rdma.RemoteRead)
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	after := rdma.Live()
	require.Equal(t, before.MRs, after.MRs)
	require.Equal(t, before.Registrations+200, after.Registrations)
}

func TestRegistrationOfWhatIsNotThere(t *testing.T) {
	d := open(t, rdma.DomainOptions{})
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	_, err = d.Register(addressOf(b), 1<<20, rdma.LocalTarget)
	require.ErrorIs(t, err, rdma.ErrInvalid, "memory that cannot be written")
	at := addressOf(b)
	require.NoError(t, unix.Munmap(b))
	_, err = d.Register(at, 1<<20, rdma.RemoteRead)
	require.ErrorIs(t, err, rdma.ErrInvalid, "memory that is not mapped")
}

// The limit on locked memory counts for plain users, and the error names it.
func TestLimitOfAPlainUser(t *testing.T) {
	library(t)
	if os.Getuid() != 0 {
		t.Skipf("probed the user: only root can become another one, this is %d", os.Getuid())
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"=plain user")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "ulimit -l) is 1048576 bytes, of which this process has registered 614400")
}

func bePlainUser() {
	if err := plainUser(); err != nil {
		println(err.Error())
		os.Exit(1)
	}
}

func plainUser() error {
	limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	lib, err := rdma.Load("")
	if err != nil {
		return err
	}
	d, err := lib.Open("", rdma.DomainOptions{})
	if err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, 600<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	r, err := d.Register(addressOf(b), uintptr(len(b)), rdma.LocalTarget)
	if err != nil {
		return err
	}
	if _, err = d.Register(addressOf(b), uintptr(len(b)), rdma.LocalTarget); !errors.Is(err, rdma.ErrMemory) {
		return errors.Join(errors.New("registered beyond the limit"), err)
	}
	println(err.Error())
	if err := r.Close(context.Background()); err != nil {
		return err
	}
	if _, err = d.Register(addressOf(b), uintptr(len(b)), rdma.LocalTarget); err != nil {
		return err
	}
	return d.Close()
}
