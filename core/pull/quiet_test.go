package pull_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core"
	"moorage/core/cost"
	"moorage/core/pull"
	"moorage/core/registry"
	"moorage/core/verbs"
	"moorage/rdma/rdmatest"
)

// quietEnv makes of the test a process that the kernel kills at the first system call of ours: those of Go's scheduler and of its
// memory are allowed.
const quietEnv = "MOORAGE_PULL_QUIET"

const (
	quietTransfer = "transfer" // from and into memory of the store and registered memory, over and over
	quietRegister = "register" // which is a system call, so that it must not survive
	cannot        = 77         // exit status: no filter can be installed here
)

// TestNoSystemCalls: a transfer from and into memory that a card knows makes none.
func TestNoSystemCalls(t *testing.T) {
	f := rdmatest.Provider(t)
	self, err := os.Executable()
	require.NoError(t, err)
	run := func(role string) (*exec.Cmd, []byte) {
		cmd := exec.Command(self)
		// Where GOMAXPROCS is given, the runtime does not look every second into files for a limit of processors.
		cmd.Env = append(os.Environ(), quietEnv+"="+role, "MOORAGE_LIBIBVERBS="+f.Path, "GOMAXPROCS=2")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() == cannot {
			t.Skipf("probed seccomp: %s", out)
		}
		return cmd, out
	}
	cmd, out := run(quietTransfer)
	require.True(t, cmd.ProcessState.Success(), "%v: %s", cmd.ProcessState, out)
	cmd, out = run(quietRegister)
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signaled() && status.Signal() == unix.SIGSYS, "%v: %s", cmd.ProcessState, out)
}

func beQuiet(role string) {
	err := quiet(role)
	code := 0
	switch {
	case errors.Is(err, errNoFilter):
		code = cannot
	case err != nil:
		code = 1
	}
	if err != nil {
		println(err.Error())
	}
	unix.Exit(code) // and nothing else, as writing what was covered
}

var errNoFilter = errors.New("no filter")

func quiet(role string) error {
	w := &world{}
	var err error
	o := pull.Options{Model: cost.Model{Policy: cost.Require}}
	d := verbs.Options{Spin: time.Minute} // or now and then the poller would sleep, and be woken up
	if w.mine, err = openNode("fake0", o, d); err != nil {
		return err
	}
	if w.theirs, err = openNode("fake1", o, d); err != nil {
		return err
	}
	if w.conn, w.back, err = connect(w.mine, w.theirs); err != nil {
		return err
	}
	from, into, err := w.quietMemory()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, _, err = w.transfer(ctx, from, into); err != nil {
		return err
	}
	if err := filter(eventfds()); err != nil {
		return fmt.Errorf("%w: %w", errNoFilter, err)
	}
	if role == quietRegister {
		_, err := w.mine.store.Register(into[0].Addr, into[0].Size, registry.Options{})
		return err
	}
	for range 1000 {
		if _, _, err := w.transfer(ctx, from, into); err != nil {
			return err
		}
	}
	return nil
}

// quietMemory is memory of both kinds on both sides.
func (w *world) quietMemory() (from, into []pull.Slice, err error) {
	const size = 100_000
	for i, n := range []*node{w.mine, w.theirs} {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return nil, nil, err
		}
		if _, err := n.store.Register(addressOf(b), size, registry.Options{}); err != nil {
			return nil, nil, err
		}
		if i == 0 {
			into = append(into, slice(b))
		} else {
			from = append(from, slice(b))
		}
	}
	room, err := w.mine.store.Reserve(size)
	if err != nil {
		return nil, nil, err
	}
	if _, err := w.theirs.store.Put([]byte("k"), make([]byte, size), core.PutOptions{}); err != nil {
		return nil, nil, err
	}
	v, err := w.theirs.store.Get([]byte("k"))
	return append(from, pull.Slice{Addr: v.Addr(), Size: size}), append(into, pull.Slice{Addr: room.Addr(), Size: size, Reserved: true}), err
}

// eventfds are those with which Go's poller wakes itself.
func eventfds() (all []uint32) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && strings.Contains(to, "eventfd") {
			all = append(all, uint32(n))
		}
	}
	return all
}

// forbidden is what registers, reads, writes, sends, opens or asks.
var forbidden = []uint32{unix.SYS_IOCTL, unix.SYS_MSYNC, unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MUNLOCK, unix.SYS_READV, unix.SYS_WRITEV,
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG,
	unix.SYS_RECVMSG, unix.SYS_FALLOCATE, unix.SYS_MREMAP, unix.SYS_PRLIMIT64, unix.SYS_FCNTL, unix.SYS_FSTAT,
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_PROCESS_VM_READV, unix.SYS_PPOLL, unix.SYS_DUP}

// filter installs the rule in all threads.
func filter(wakes []uint32) error {
	const load, equal, back = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	kill, allow := unix.SockFilter{Code: back, K: unix.SECCOMP_RET_KILL_PROCESS}, unix.SockFilter{Code: back, K: unix.SECCOMP_RET_ALLOW}
	program := []unix.SockFilter{{Code: load}} // the number of the call
	for _, n := range forbidden {
		program = append(program, unix.SockFilter{Code: equal, Jf: 1, K: n}, kill)
	}
	program = append(program, unix.SockFilter{Code: equal, Jt: 2, K: unix.SYS_READ}, unix.SockFilter{Code: equal, Jt: 1, K: unix.SYS_WRITE},
		allow, unix.SockFilter{Code: load, K: 16}) // the first argument
	for _, fd := range wakes {
		program = append(program, unix.SockFilter{Code: equal, Jf: 1, K: fd}, allow)
	}
	return install(append(program, kill))
}
