package core

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/registry"
)

// ring is a device that this kernel has: buffers registered with io_uring are pinned as those of a network card are, and
// what is written from one to a file comes from the pages that were pinned, whatever is mapped there now.
type ring struct {
	fd      int
	memory  []byte // both queues
	entries []byte
	file    *os.File // what transfers go to
	params  ringParams
	slots   []bool
}

// ringParams are what the kernel says of a ring, in words of 4 bytes: its features, and where things lie in the queues.
type ringParams [30]uint32

const (
	ringFeatures = 5
	sqTail       = 11
	sqMask       = 12
	sqArray      = 16
	cqHead       = 20
	cqMask       = 22
	cqEntries    = 25
)

type ringBuffer struct {
	ring *ring
	slot int
	as   uintptr
	off  uintptr // from at to as
}

const (
	ringRegisterSparse = 15 // IORING_REGISTER_BUFFERS2
	ringUpdate         = 16 // IORING_REGISTER_BUFFERS_UPDATE
	ringWriteFixed     = 5
	ringSlots          = 16
)

func openRing(t *testing.T) *ring {
	t.Helper()
	r := &ring{slots: make([]bool, ringSlots)}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, placeOf(&r.params), 0)
	if errno != 0 {
		t.Skipf("probed io_uring_setup: %v", errno)
	}
	r.fd = int(fd)
	t.Cleanup(func() { require.NoError(t, r.close()) })
	sparse := struct {
		nr, flags uint32
		_         uint64
		data      uint64
		tags      uint64
	}{nr: ringSlots, flags: 1} // IORING_RSRC_REGISTER_SPARSE
	if err := r.register(ringRegisterSparse, placeOf(&sparse), 32); err != nil {
		t.Skipf("probed a sparse table of io_uring buffers: %v", err)
	}
	runtime.KeepAlive(&sparse)
	var err error
	if r.memory, err = unix.Mmap(r.fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil || r.params[ringFeatures]&1 == 0 {
		t.Skipf("probed the queues of io_uring in one mapping: %v", err)
	}
	r.entries, err = unix.Mmap(r.fd, 0x10000000, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	r.file, err = os.CreateTemp(t.TempDir(), "peer")
	require.NoError(t, err)
	return r
}

func (r *ring) close() error {
	var err error
	for _, m := range [][]byte{r.memory, r.entries} {
		if m != nil {
			err = errors.Join(err, unix.Munmap(m))
		}
	}
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	return errors.Join(err, unix.Close(r.fd))
}

func (r *ring) register(op, arg uintptr, n uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, arg, n, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// update puts a buffer into a slot, or nothing.
func (r *ring) update(slot int, at, size uintptr) error {
	vec := [2]uint64{uint64(at), uint64(size)}
	tag := uint64(0)
	up := struct {
		offset, _  uint32
		data, tags uint64
		nr, _      uint32
	}{offset: uint32(slot), data: uint64(placeOf(&vec)), tags: uint64(placeOf(&tag)), nr: 1}
	err := r.register(ringUpdate, placeOf(&up), 32)
	runtime.KeepAlive(&vec)
	runtime.KeepAlive(&tag)
	return err
}

func (r *ring) Name() string { return "ring" }

func (r *ring) Register(at, as, size uintptr, _ registry.Use) (registry.Region, error) {
	for i, taken := range r.slots {
		if !taken {
			if err := r.update(i, at, size); err != nil {
				return nil, err
			}
			r.slots[i] = true
			return &ringBuffer{ring: r, slot: i, as: as, off: at - as}, nil
		}
	}
	return nil, unix.ENOSPC
}

func (b *ringBuffer) Deregister() error {
	b.ring.slots[b.slot] = false
	return b.ring.update(b.slot, 0, 0)
}

// send writes a piece to the file and reads there what came.
func (r *ring) send(t *testing.T, p registry.Piece) []byte {
	t.Helper()
	b := p.Region.(*ringBuffer)
	e := ringEntry{op: ringWriteFixed, fd: int32(r.file.Fd()), addr: uint64(p.Addr + b.off), n: uint32(p.Size), slot: uint16(b.slot)}
	copy(r.entries, bytesOfEntry(&e))
	at := func(what int) *uint32 { return wordAt(r.memory, r.params[what]) }
	*wordAt(r.memory, r.params[sqArray]+4*(*at(sqTail)&*at(sqMask))) = 0 // names the first entry
	*at(sqTail)++
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 1, 1, 0, 0)
	require.Zero(t, errno)
	result := int32(*wordAt(r.memory, r.params[cqEntries]+16*(*at(cqHead)&*at(cqMask))+8))
	*at(cqHead)++
	require.Equal(t, int32(p.Size), result)
	got := make([]byte, p.Size)
	_, err := r.file.ReadAt(got, 0)
	require.NoError(t, err)
	return got
}
