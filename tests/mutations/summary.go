package main

import "fmt"

// outcome is what became of a row.
type outcome int

const (
	detected outcome = iota
	undetected
	skipped
)

type verdict struct {
	outcome outcome
	text    string
}

// promises are those of test_promises.py, then those of table_rdma.go and table_tier.go,
// table_tier_disk.go and table_tiered.go.
var promises = []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7", "R1", "R2", "R3", "R4", "D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8"}

// tally counts the rows of each promise by their outcome, and those of Python by themselves.
type tally map[string]*struct {
	rows   [3]int
	python [3]int
}

func (t tally) add(m mutation, v verdict) {
	if t[m.promise] == nil {
		t[m.promise] = new(struct{ rows, python [3]int })
	}
	t[m.promise].rows[v.outcome]++
	if m.where == python {
		t[m.promise].python[v.outcome]++
	}
}

// report prints a line for each promise. False: a mechanism is not protected by its test.
func (t tally) report() bool {
	bad, left := 0, 0
	fmt.Println("\npromise  taken out  detected  of those by Python  not detected  skipped")
	for _, p := range promises {
		c := t[p]
		if c == nil {
			continue // none of its rows was chosen
		}
		fmt.Printf("%-7s  %9d  %8d  %18d  %12d  %7d\n", p, c.rows[detected]+c.rows[undetected]+c.rows[skipped], c.rows[detected],
			c.python[detected], c.rows[undetected], c.rows[skipped])
		bad += c.rows[undetected]
		left += c.rows[skipped]
	}
	if left > 0 {
		fmt.Printf("%d were skipped\n", left)
	}
	if bad > 0 {
		fmt.Printf("%d mechanisms are not protected by their test\n", bad)
	}
	return bad == 0
}
