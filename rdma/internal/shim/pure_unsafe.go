package shim

import (
	"errors"
	"syscall"
	"time"
	"unsafe"

	"moorage/rdma/internal/ibv"
)

// chain is what a posted chain looks like to the library, in memory that Go does not move.
type chain struct {
	wrs  [MaxChain]ibv.SendWR
	sges [MaxChain * MaxTargets]ibv.SGE
	bad  uintptr
}

// PurePoster posts without cgo. It is not safe for concurrent use.
type PurePoster struct {
	memory []byte
	chain  *chain
}

// NewPurePoster maps the memory for one chain.
func NewPurePoster() (*PurePoster, error) {
	b, err := ibv.Memory(int(unsafe.Sizeof(chain{})))
	if err != nil {
		return nil, err
	}
	return &PurePoster{memory: b, chain: (*chain)(unsafe.Pointer(&b[0]))}, nil
}

// Close gives the memory back.
func (p *PurePoster) Close() error {
	if p.memory == nil {
		return nil
	}
	err := ibv.FreeMemory(p.memory)
	p.memory, p.chain = nil, nil
	return err
}

// Post posts at most MaxChain reads into those of the targets that they name, and says how many of them the device took. The rest
// was refused with the error.
func (p *PurePoster) Post(qp ibv.QP, reads []Read, targets []ibv.SGE) (int, error) {
	if len(reads) == 0 {
		return 0, nil
	}
	if err := named(reads, len(targets)); err != nil {
		return 0, err
	}
	if p.chain == nil {
		return 0, errClosed
	}
	c, n := p.chain, min(len(reads), MaxChain)
	used := 0
	for i, r := range reads[:n] {
		c.wrs[i] = ibv.SendWR{ID: r.ID, SGList: uintptr(unsafe.Pointer(&c.sges[used])), NumSGE: int32(r.N), Opcode: ibv.OpRead,
			Remote: r.Remote, RKey: r.RKey}
		used += copy(c.sges[used:], targets[r.First:][:r.N])
		if r.Signaled != 0 {
			c.wrs[i].Flags = ibv.SendSignaled
		}
		if i+1 < n {
			c.wrs[i].Next = uintptr(unsafe.Pointer(&c.wrs[i+1]))
		}
	}
	first := uintptr(unsafe.Pointer(&c.wrs[0]))
	c.bad = first
	code := int32(ibv.Call(qp.PostFunc(), uintptr(qp), first, uintptr(unsafe.Pointer(&c.bad))))
	if code == 0 {
		return n, nil
	}
	return accepted(int64(c.bad-first)/int64(unsafe.Sizeof(ibv.SendWR{})), n), postError(code)
}

// PurePoll takes completions. It tries for the time of spin until there is at least one; -1 says that the queue is broken.
func PurePoll(cq ibv.CQ, wc []ibv.WC, spin time.Duration) int {
	if len(wc) == 0 {
		return 0
	}
	poll, began := cq.PollFunc(), time.Now()
	for {
		n := int(int32(ibv.Call(poll, uintptr(cq), uintptr(len(wc)), uintptr(unsafe.Pointer(&wc[0])))))
		if n != 0 || time.Since(began) >= spin {
			return n
		}
	}
}

var (
	errClosed  = errors.New("the poster is closed")
	errTargets = errors.New("a read names targets that are not there")
)

// named says whether each read has targets, no more than it may, and all of them are there.
func named(reads []Read, targets int) error {
	for i := range reads {
		if r := &reads[i]; r.N == 0 || r.N > MaxTargets || uint64(r.First)+uint64(r.N) > uint64(targets) {
			return errTargets
		}
	}
	return nil
}

// accepted keeps what a device says about a refused chain within the chain.
func accepted(n int64, all int) int { return int(min(max(n, 0), int64(all))) }

// postError is the error that post_send returned. Some drivers return -errno or -1.
func postError(code int32) error {
	switch {
	case code > 0:
		return syscall.Errno(code)
	case code < -1:
		return syscall.Errno(-code)
	}
	return syscall.EIO
}
