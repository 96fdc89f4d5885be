//go:build linux

package rdma_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moorage/core"
	"moorage/core/cost"
	"moorage/core/pull"
	"moorage/core/registry"
	"moorage/core/verbs"
	"moorage/rdma"
)

const storeSize = 8 << 20 // one slab, small: the emulated machine touches all of it each time

// endpoints is a store with a card, and an endpoint that copies and one that registers what is not registered.
type endpoints struct {
	store *core.Store
	card  *verbs.Device
	at    *registry.Attached
	by    map[cost.Policy]*pull.Endpoint
}

func openEndpoints() (e *endpoints, err error) {
	e = &endpoints{by: map[cost.Policy]*pull.Endpoint{}}
	if e.store, err = core.Open(core.Options{Capacity: storeSize}); err != nil {
		return nil, err
	}
	if e.card, err = verbs.Open("", verbs.Options{}); err != nil {
		return nil, errors.Join(err, e.store.Close(true))
	}
	if e.at, err = e.store.Attach(e.card); err != nil {
		return nil, errors.Join(err, e.card.Close(), e.store.Close(true))
	}
	for _, p := range []cost.Policy{cost.Never, cost.Always} {
		o := pull.Options{Model: cost.Model{Policy: p}, Chunk: 64 << 10, Chunks: 8}
		if e.by[p], err = pull.New(e.store.Registry(), e.at, o); err != nil {
			return nil, errors.Join(err, e.close())
		}
	}
	return e, nil
}

func (e *endpoints) close() error {
	var err error
	for _, p := range e.by {
		err = errors.Join(err, p.Close(context.Background()))
	}
	return errors.Join(err, e.store.Close(true))
}

// policyFor is the endpoint's that takes that way with memory that nobody registered.
func policyFor(w pull.Way) cost.Policy {
	if w == pull.W3 || w == pull.R3 {
		return cost.Always
	}
	return cost.Never
}

// seller is the peer process: it makes offers of its memory.
type seller struct {
	*endpoints
	offer *pull.Offer
	undo  []func() error
	calm  func() error // ends a storm
}

// beStore serves until its standard input ends.
func beStore() {
	if err := sell(); err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	if n := rdma.Live(); n.QPs+n.CQs+n.MRs+n.PDs+n.Contexts+n.Channels != 0 {
		fmt.Fprintf(os.Stderr, "store: left behind: %+v\n", n)
		os.Exit(1)
	}
}

func sell() error {
	e, err := openEndpoints()
	if err != nil {
		return err
	}
	s := &seller{endpoints: e}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.card.Domain().Serve(ctx, listener, rdma.ConnOptions{}, func(c *rdma.Conn) {
			select {
			case <-c.Broken():
			case <-ctx.Done():
			}
		}, func(err error) { fmt.Fprintln(os.Stderr, "store:", err) })
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
	if err := errors.Join(s.forget(), s.close()); err != nil {
		return err
	}
	return e.gone()
}

// gone waits until the card was closed behind the store.
func (e *endpoints) gone() error {
	for end := time.Now().Add(longestWait); rdma.Live().Contexts != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("the card was not closed with the store")
		}
	}
	return nil
}

func (s *seller) obey(command string) (string, error) {
	var key string
	var way pull.Way
	var size int
	var seed uint64
	word, _, _ := strings.Cut(command, " ")
	switch word {
	case "put": // KEY SIZE SEED
		if _, err := fmt.Sscanf(command, "put %s %d %d", &key, &size, &seed); err != nil {
			return "", err
		}
		return "", s.put(key, size, seed)
	case "remove":
		return "", s.store.Remove([]byte(strings.TrimPrefix(command, "remove ")))
	case "trim":
		n, err := s.store.Trim()
		return fmt.Sprint(n), err
	case "offer": // WAY SIZE SEED; of W0 what is stored as k
		if _, err := fmt.Sscanf(command, "offer %d %d %d", &way, &size, &seed); err != nil {
			return "", err
		}
		return "", s.makeOffer(way, size, seed)
	case "next":
		regions, err := s.offer.Next(context.Background())
		if err == io.EOF {
			return "end", nil
		}
		var b []byte
		for _, r := range regions {
			b = r.AppendBinary(b)
		}
		return hex.EncodeToString(b), err
	case "forget":
		return "", s.forget()
	case "storm":
		s.calm = s.storm()
		return "", nil
	case "calm":
		return "", s.calm()
	case "counts":
		return fmt.Sprint(rdma.Live().Registrations, s.at.Stats().Registered, s.store.Registry().Stats().SlabBytes), nil
	}
	return "", fmt.Errorf("no such command: %q", command)
}

// storm gives back what it can of the store, and registers and releases memory of the caller, until it is ended.
func (e *endpoints) storm() (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		b, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		for ; err == nil && ctx.Err() == nil; time.Sleep(time.Millisecond) { // there are two processors, both emulated
			var g *registry.Registration
			if _, err = e.store.Trim(); err != nil {
				break
			}
			if g, err = e.store.Register(addressOf(b), 64<<10, registry.Options{}); err == nil {
				err = core.Unregister(context.Background(), g)
			}
		}
		ended <- err
	}()
	return func() error { cancel(); return <-ended }
}

func (s *seller) put(key string, size int, seed uint64) error {
	data := make([]byte, size)
	pattern(data, seed)
	_, err := s.store.Put([]byte(key), data, core.PutOptions{})
	return err
}

func (s *seller) makeOffer(way pull.Way, size int, seed uint64) error {
	var from pull.Slice
	if way == pull.W0 {
		v, err := s.store.Get([]byte("k"))
		if err != nil {
			return err
		}
		s.undo = append(s.undo, func() error { v.Release(); return nil })
		from = pull.Slice{Addr: v.Addr(), Size: v.Size()}
	} else {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		s.undo = append(s.undo, func() error { return unix.Munmap(b) })
		pattern(b, seed)
		from = pull.Slice{Addr: addressOf(b), Size: uint64(size)}
		if way == pull.W3 { // what is only sent need not be writable
			if err := unix.Mprotect(b, unix.PROT_READ); err != nil {
				return err
			}
		}
	}
	if way == pull.W1 {
		g, err := s.store.Register(from.Addr, from.Size, registry.Options{})
		if err != nil {
			return err
		}
		s.undo = append(s.undo, func() error { return core.Unregister(context.Background(), g) })
	}
	var err error
	if s.offer, err = s.by[policyFor(way)].Offer([]pull.Slice{from}, 1); err != nil {
		return err
	}
	if r := s.offer.Report(); r.Bytes[way] != from.Size {
		return fmt.Errorf("%v was taken for %v: %+v", r, way, r.Bytes)
	}
	return nil
}

// forget ends the offer and what it stood on, the last first.
func (s *seller) forget() (err error) {
	if s.offer != nil {
		err = s.offer.Close()
		s.offer = nil
	}
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		err = errors.Join(err, s.undo[last]())
		s.undo = s.undo[:last]
	}
	return err
}
