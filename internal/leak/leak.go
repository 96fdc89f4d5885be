// Package leak is for the TestMain of a package: it fails when the tests have left something behind.
package leak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long what ends behind a test's back may take.
const patience = 2 * time.Second

// Run runs the tests and gives the exit code: 1 when left still says something a while after the last of them.
func Run(m *testing.M, left func() string) (code int) {
	code = m.Run()
	for wait := time.Millisecond; code == 0; wait *= 2 {
		found := left()
		if found == "" {
			break
		}
		if wait > patience {
			fmt.Fprintln(os.Stderr, "left behind:", found)
			code = 1
		}
		time.Sleep(wait)
	}
	return code
}

// Goroutines are the stacks of those, but for the caller's, that are inside of a package whose path contains within. Those
// that contain one of except may stay.
func Goroutines(within string, except ...string) (found string) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
next:
	for _, g := range strings.Split(string(stacks), "\n\n")[1:] {
		if !strings.Contains(g, within) {
			continue
		}
		for _, word := range except {
			if strings.Contains(g, word) {
				continue next
			}
		}
		found += g + "; "
	}
	return found
}

// Descriptors are what the open descriptors of this process lead to, of those that ours says are the tests'.
func Descriptors(ours func(target string) bool) (found string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return "descriptors cannot be listed: " + err.Error() + "; "
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && ours(to) {
			found += "descriptor of " + to + "; "
		}
	}
	return found
}
