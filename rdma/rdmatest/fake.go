// Package rdmatest is for tests: a libibverbs with two devices in one process, which does wrong what it is told to. Its source is
// rdma/internal/ibv/testdata/fakeverbs.c, which says what there is to set and to count.
package rdmatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ebitengine/purego"
)

// Fake is the stand-in for libibverbs.
type Fake struct {
	Path string // of the library

	// Event raises an asynchronous event at a device. Reset takes back all faults.
	Event func(device, kind int32)
	Reset func()

	set func(string, int64) int32
	get func(string) int64
}

var (
	built    = sync.OnceValues(compile)
	folder   string
	errNoSet = errors.New("there is no such setting")
)

// Provider gives the stand-in, compiled once for a process, with no fault set.
func Provider(t testing.TB) *Fake {
	t.Helper()
	f, err := built()
	if err != nil && os.Getenv("RDMA_REQUIRED") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("probed the C compiler: %v", err)
	}
	f.Reset()
	t.Cleanup(f.Reset)
	return f
}

// Set sets what the stand-in does from now on.
func (f *Fake) Set(t testing.TB, name string, value int64) {
	t.Helper()
	if f.set(name, value) != 1 {
		t.Fatal(fmt.Errorf("%w: %s", errNoSet, name))
	}
}

// Get reads a counter.
func (f *Fake) Get(name string) int64 { return f.get(name) }

// Remove takes the compiled library away: at the end of TestMain.
func Remove() { _ = os.RemoveAll(folder) }

// Left says what tests have left behind, or have done that must never be done. Empty: nothing.
func Left() (left string) {
	if folder == "" {
		return ""
	}
	f, err := built()
	if err != nil {
		return ""
	}
	for _, name := range []string{"live_contexts", "live_pds", "live_mrs", "live_channels", "live_cqs", "live_qps",
		"overflows", "sq_overflows", "unacked", "write_grants", "endless", "busy"} {
		if n := f.get(name); n != 0 {
			left += fmt.Sprintf("%d %s; ", n, name)
		}
	}
	return left
}

// source is the stand-in's, which stands beside the layout that it is compiled against.
func source() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "internal", "ibv", "testdata", "fakeverbs.c")
}

func compile() (*Fake, error) {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		return nil, err
	}
	var err error
	if folder, err = os.MkdirTemp("", "moorage-rdma"); err != nil {
		return nil, err
	}
	f := &Fake{Path: filepath.Join(folder, "libibverbs.so")}
	args := []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", source(), "-o", f.Path, "-lpthread"}
	header := exec.Command(cc, "-xc", "-fsyntax-only", "-")
	header.Stdin = strings.NewReader("#include <infiniband/verbs.h>\n")
	if header.Run() != nil {
		args = append(args, "-DOWN_LAYOUT")
	}
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	lib, err := purego.Dlopen(f.Path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	purego.RegisterLibFunc(&f.Reset, lib, "fake_reset")
	purego.RegisterLibFunc(&f.set, lib, "fake_set")
	purego.RegisterLibFunc(&f.get, lib, "fake_get")
	purego.RegisterLibFunc(&f.Event, lib, "fake_event")
	return f, nil
}
