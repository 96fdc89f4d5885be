//go:build linux

package rdma_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"moorage/rdma"
)

// peerSize is more than one message of the soft device (8 MiB).
const peerSize = 10 << 20

// server is the peer process: one slab as a store has it, mapped twice, registered by the address of the writer.
type server struct {
	domain *rdma.Domain
	file   int
	writer []byte
	reader []byte

	mu     sync.Mutex
	region *rdma.Region
}

// bePeer serves until its standard input ends. Each line is a command, each answer a line.
func bePeer() {
	s, err := newServer()
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.domain.Serve(ctx, listener, rdma.ConnOptions{}, func(c *rdma.Conn) {
			select {
			case <-c.Broken():
			case <-ctx.Done():
			}
		}, func(err error) { fmt.Fprintln(os.Stderr, "peer:", err) })
	}()
	fmt.Println("ok", listener.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		answer, err := s.obey(in.Text())
		if err != nil {
			fmt.Println("failed", err)
			continue
		}
		fmt.Println("ok", answer)
	}
	cancel()
	<-served
	if err := s.domain.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	if n := rdma.Live(); n.QPs+n.CQs+n.MRs+n.PDs+n.Contexts+n.Channels != 0 {
		fmt.Fprintf(os.Stderr, "peer: left behind: %+v\n", n)
		os.Exit(1)
	}
}

func newServer() (*server, error) {
	s := &server{}
	lib, err := rdma.Load("")
	if err != nil {
		return nil, err
	}
	if s.domain, err = lib.Open("", rdma.DomainOptions{}); err != nil {
		return nil, err
	}
	if s.file, err = unix.MemfdCreate("slab", unix.MFD_CLOEXEC); err != nil {
		return nil, err
	}
	if err = unix.Ftruncate(s.file, peerSize); err != nil {
		return nil, err
	}
	if s.writer, err = unix.Mmap(s.file, 0, peerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	if s.reader, err = unix.Mmap(s.file, 0, peerSize, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	pattern(s.writer, 1)
	return s, s.register()
}

func (s *server) register() (err error) {
	s.region, err = s.domain.Register(addressOf(s.writer), peerSize, rdma.RemoteRead)
	return err
}

func (s *server) obey(command string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch command {
	case "describe":
		return hex.EncodeToString(s.region.Remote().AppendBinary(nil)), nil
	case "deregister":
		return "", s.region.Close(context.Background())
	case "register":
		return "", s.register()
	case "trim": // gives the pages back and writes again, as a store does: deregistered first
		if err := s.region.Close(context.Background()); err != nil {
			return "", err
		}
		if err := unix.Fallocate(s.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, peerSize); err != nil {
			return "", err
		}
		pattern(s.writer, 2)
		return "", s.register()
	case "counts":
		n := rdma.Live()
		return fmt.Sprintf("%d %d %d", n.Registrations, n.MRs, n.QPs), nil
	}
	return "", fmt.Errorf("no such command: %q", command)
}

func (p *peer) describe() rdma.RemoteRegion {
	p.t.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(p.ask("describe")))
	if err == nil {
		var r rdma.RemoteRegion
		if r, err = rdma.ParseRemoteRegion(b); err == nil {
			return r
		}
	}
	p.t.Fatal(err)
	return rdma.RemoteRegion{}
}
