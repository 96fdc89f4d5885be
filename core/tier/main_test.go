package tier

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when the tests have left a goroutine or a file of a disk.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
		return
	}
	code := m.Run()
	for wait := time.Millisecond; code == 0; wait *= 2 {
		left := leftovers()
		if left == "" {
			break
		}
		if wait > 2*time.Second {
			fmt.Fprint(os.Stderr, "left behind: ", left, "\n")
			code = 1
		}
		time.Sleep(wait)
	}
	os.Exit(code)
}

func leftovers() (left string) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if _, _, ours := parseName(filepath.Base(to)); err == nil && ours {
			left += "descriptor of " + to + "; "
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, g := range strings.Split(string(stacks), "\n\n")[1:] {
		if strings.Contains(g, "moorage/core/tier") {
			left += g + "; "
		}
	}
	return left
}
