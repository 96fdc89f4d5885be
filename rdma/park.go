package rdma

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"moorage/rdma/internal/ibv"
)

// parking lets a goroutine sleep in Go's poller until a descriptor of the library becomes readable.
type parking struct {
	file *os.File // a duplicate: the library closes its own
	raw  syscall.RawConn
}

func newParking(fd int, name string) (*parking, error) {
	dup, err := ibv.PollableFD(fd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file := os.NewFile(uintptr(dup), name)
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails for a descriptor that cannot be polled
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &parking{file: file, raw: raw}, nil
}

// wait calls take when the descriptor is readable, until it returns something else than EAGAIN, asleep in between. wake ends it
// with os.ErrDeadlineExceeded.
func (p *parking) wait(take func() error) error {
	var err error
	slept := p.raw.Read(func(fd uintptr) bool {
		for ibv.Readable(fd) {
			if err = take(); !errors.Is(err, syscall.EINTR) {
				return !errors.Is(err, syscall.EAGAIN)
			}
		}
		return false
	})
	if slept != nil {
		return slept
	}
	return err
}

// wake ends this and every later wait.
func (p *parking) wake() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) }

func (p *parking) close() { _ = p.file.Close() }
