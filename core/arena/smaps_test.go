package arena

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vmFlags are the flags of the mapping that holds addr.
func vmFlags(smaps string, addr uintptr) []string {
	return strings.Fields(ofMapping(smaps, addr, "VmFlags:"))
}

// ofMapping is a line of the mapping that holds addr, behind its name.
func ofMapping(smaps string, addr uintptr, name string) string {
	ours := false
	for line := range strings.Lines(smaps) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			ours = from <= addr && addr < to
		} else if rest, ok := strings.CutPrefix(line, name); ok && ours {
			return rest
		}
	}
	return ""
}

// inHugePages is how much of the mapping that holds addr its page tables have as huge pages.
func inHugePages(t *testing.T, addr uintptr) (bytes uint64) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	_, err = fmt.Sscanf(ofMapping(string(smaps), addr, "ShmemPmdMapped:"), "%d kB", &bytes)
	require.NoError(t, err)
	return bytes << 10
}
