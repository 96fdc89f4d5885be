package tier

import (
	"sync"

	"golang.org/x/sys/unix"

	"moorage/core/registry"
)

// slots are aligned pieces of memory, of ChunkBytes each, for what cannot go straight between the disk and its place: small
// objects, last partial blocks, memory that is not aligned. They are never waited for: when all are in use, there is one more.
type slots struct {
	mu     sync.Mutex
	free   []slot
	block  []byte // the first ones, in one piece
	region registry.Region
}

type slot struct {
	addr   uintptr
	own    []byte // its own mapping
	region registry.Region
}

const (
	firstSlots = 16
	spareSlots = 64
)

func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

// open maps the first slots and registers them with the engine, if that can be done.
func (s *slots) open(register func(at, as, size uintptr, use registry.Use) (registry.Region, error)) (err error) {
	if s.block, err = mapMemory(firstSlots * ChunkBytes); err != nil {
		return err
	}
	addr := addressOf(s.block)
	if s.region, err = register(addr, addr, firstSlots*ChunkBytes, registry.Send|registry.Receive); err != nil {
		s.region = nil
	}
	for i := range firstSlots {
		s.free = append(s.free, slot{addr: addr + uintptr(i)*ChunkBytes, region: s.region})
	}
	return nil
}

func (s *slots) take() (slot, error) {
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		one := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return one, nil
	}
	s.mu.Unlock()
	own, err := mapMemory(ChunkBytes)
	if err != nil {
		return slot{}, err
	}
	return slot{addr: addressOf(own), own: own}, nil
}

func (s *slots) give(one slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.own != nil && len(s.free) >= spareSlots {
		_ = unix.Munmap(one.own)
		return
	}
	s.free = append(s.free, one)
}

// close is called when no slot is in use and the engine is closed.
func (s *slots) close() {
	for _, one := range s.free {
		if one.own != nil {
			_ = unix.Munmap(one.own)
		}
	}
	s.free = nil
	if s.block != nil {
		_ = unix.Munmap(s.block)
		s.block = nil
	}
}
