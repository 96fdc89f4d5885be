package timing

import (
	"os"
	"testing"

	"moorage/internal/leak"
)

// TestMain fails when a trace's goroutine is left.
func TestMain(m *testing.M) {
	os.Exit(leak.Run(m, func() string { return leak.Goroutines("moorage/core") }))
}
