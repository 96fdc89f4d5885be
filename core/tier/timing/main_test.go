package timing

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when a trace's goroutine is left.
func TestMain(m *testing.M) {
	code := m.Run()
	for wait := time.Millisecond; code == 0; wait *= 2 {
		left := leftovers()
		if left == "" {
			break
		}
		if wait > time.Second {
			fmt.Fprintln(os.Stderr, "left behind:", left)
			code = 1
		}
		time.Sleep(wait)
	}
	os.Exit(code)
}

func leftovers() (left string) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, g := range strings.Split(string(stacks), "\n\n")[1:] {
		if strings.Contains(g, "moorage/core") {
			left += g + "\n"
		}
	}
	return left
}
