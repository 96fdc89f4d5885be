//go:build linux

// Package rdma_test runs the verbs package on a real device, between two processes. tests/rdma/run.sh brings a virtual machine
// that has one.
package rdma_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/rdma"
)

const roleEnv = "MOORAGE_RDMA_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
	case "peer":
		bePeer()
		return
	case "store":
		beStore()
		return
	case "plain user":
		bePlainUser()
		return
	}
	code := m.Run()
	left := rdma.Live()
	left.Registrations, left.Deregistrations = 0, 0
	if code == 0 && left != (rdma.Counts{}) {
		fmt.Fprintf(os.Stderr, "left behind: %+v\n", left)
		code = 1
	}
	os.Exit(code)
}

// library gives libibverbs with a device, or skips the test.
func library(t testing.TB) *rdma.Library {
	t.Helper()
	lib, err := rdma.Load("")
	if err == nil {
		_, err = lib.Devices()
	}
	if err != nil && os.Getenv("RDMA_REQUIRED") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("probed libibverbs: %v", err)
	}
	return lib
}

func open(t testing.TB, o rdma.DomainOptions) *rdma.Domain {
	t.Helper()
	d, err := library(t).Open("", o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// pattern fills b with bytes that depend on the seed and on the place.
func pattern(b []byte, seed uint64) {
	state := seed
	for i := 0; i+8 <= len(b); i += 8 {
		state = state*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[i:], state^state>>32)
	}
}

// peer is another process that serves one region.
type peer struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   *bufio.Writer
	out  *bufio.Reader
	addr string
}

func startPeer(t testing.TB) *peer { return startPeerAs(t, "peer") }

func startPeerAs(t testing.TB, role string) *peer {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &peer{t: t, cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.in, p.out = bufio.NewWriter(in), bufio.NewReader(out)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		done := make(chan error, 1)
		go func() { done <- p.cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = p.cmd.Process.Kill()
			<-done
			t.Error("the peer did not end")
		}
	})
	p.addr = p.hear()
	return p
}

func (p *peer) hear() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(p.t, err)
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	require.Equal(p.t, "ok", word, line)
	return rest
}

// ask has the peer carry out a command, and gives its answer.
func (p *peer) ask(command string) string {
	p.t.Helper()
	_, err := p.in.WriteString(command + "\n")
	require.NoError(p.t, err)
	require.NoError(p.t, p.in.Flush())
	return p.hear()
}

func (p *peer) kill() {
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGKILL))
}

func (p *peer) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
}

func (p *peer) connect(d *rdma.Domain, o rdma.ConnOptions) *rdma.Conn {
	p.t.Helper()
	control, err := p.dial(within(p.t, 10*time.Second))
	require.NoError(p.t, err)
	c, err := d.Connect(within(p.t, 20*time.Second), control, o)
	require.NoError(p.t, err)
	return c
}
