package tier

import (
	"os"
	"path/filepath"
	"testing"

	"moorage/internal/leak"
)

// TestMain fails when the tests have left a goroutine or a file of a disk.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
		return
	}
	os.Exit(leak.Run(m, leftovers))
}

func leftovers() (left string) {
	left = leak.Descriptors(func(to string) bool {
		_, _, ours := parseName(filepath.Base(to))
		return ours
	})
	return left + leak.Goroutines("moorage/core/tier")
}
