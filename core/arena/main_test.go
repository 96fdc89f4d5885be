package arena

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain fails when a test has left a mapping or a descriptor of a region.
func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	code := m.Run()
	if maps, fds := regionMaps(), openRegions(); code == 0 && maps+fds > 0 {
		fmt.Fprintf(os.Stderr, "left behind: %d mappings and %d descriptors of regions\n", maps, fds)
		code = 1
	}
	os.Exit(code)
}

// regionMaps counts the mappings of regions in this process.
func regionMaps() (n int) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	return strings.Count(string(maps), "/memfd:"+regionName)
}

// openRegions counts the descriptors of regions.
func openRegions() (n int) {
	for _, target := range descriptors() {
		if strings.Contains(target, "memfd:"+regionName) {
			n++
		}
	}
	return n
}

func descriptors() (targets []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if t, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			targets = append(targets, t)
		}
	}
	return targets
}
