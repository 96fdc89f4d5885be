package index

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if n := Live(); n != 0 {
		fmt.Fprintf(os.Stderr, "%d mappings left behind\n", n)
		code = max(code, 1)
	}
	os.Exit(code)
}
