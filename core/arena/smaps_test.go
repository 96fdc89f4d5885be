package arena

import (
	"fmt"
	"strings"
)

// vmFlags are the flags of the mapping that holds addr.
func vmFlags(smaps string, addr uintptr) []string {
	ours := false
	for line := range strings.Lines(smaps) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			ours = from <= addr && addr < to
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && ours {
			return strings.Fields(flags)
		}
	}
	return nil
}
