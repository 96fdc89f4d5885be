package model

import (
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var full = flag.Bool("full", false, "run the scenarios with millions of states, and each variant in all its scenarios")

func scenario(t *testing.T, name string) Scenario {
	t.Helper()
	for _, c := range Scenarios() {
		if c.Name == name {
			return c
		}
	}
	require.Fail(t, "no such scenario", name)
	return Scenario{}
}

func requireHolds(t *testing.T, c Scenario, f Faults) {
	t.Helper()
	r := Check(c, f)
	require.Empty(t, r.Rule, "%s\n%s", r.How, strings.Join(r.Trace, "\n"))
	t.Logf("%s: %d states", c.Name, r.States)
}

func TestScenariosHold(t *testing.T) {
	for _, c := range Scenarios() {
		t.Run(c.Name, func(t *testing.T) {
			if c.Large && !*full {
				t.Skipf("left out: %s has millions of states; go test ./core/arena/model -full, or pinmodel -only %[1]s", c.Name)
			}
			t.Parallel()
			requireHolds(t, c, Faults{})
		})
	}
}

func TestVariantsHold(t *testing.T) {
	for _, v := range Variants() {
		t.Run(v.Name, func(t *testing.T) {
			run := v.Scenarios
			if !*full && len(run) > 2 {
				t.Logf("left out without -full: %s", strings.Join(run[2:], ", "))
				run = run[:2]
			}
			t.Parallel()
			for _, name := range run {
				requireHolds(t, scenario(t, name), v.Faults)
			}
		})
	}
}

func TestMutationsBreakTheirRule(t *testing.T) {
	for _, m := range Mutations() {
		t.Run(m.Name, func(t *testing.T) {
			c := scenario(t, m.Scenario)
			if c.Large && !*full {
				t.Skipf("left out: %s has millions of states; go test ./core/arena/model -full", c.Name)
			}
			t.Parallel()
			r := Check(c, m.Faults)
			require.NotEmpty(t, r.Rule, "not found: %s", m.What)
			assert.Equal(t, m.Rule, r.Rule, "%s: %s\n%s", m.What, r.How, strings.Join(r.Trace, "\n"))
			assert.NotEmpty(t, r.Trace)
		})
	}
}

// A name of a scenario or variant means one thing, scenarios fit, and no mutation is an order that holds.
func TestListsAreSound(t *testing.T) {
	seen := map[string]bool{}
	add := func(name string) {
		assert.False(t, seen[name], "%s is there twice", name)
		seen[name] = true
	}
	for _, c := range Scenarios() {
		add(c.Name)
		assert.LessOrEqual(t, c.Cells, nCell)
		assert.LessOrEqual(t, c.Extents, nExtent)
		assert.LessOrEqual(t, c.Preload, nKey)
	}
	used := map[Faults]bool{}
	for _, v := range Variants() {
		add(v.Name)
		used[v.Faults] = true
	}
	for _, m := range Mutations() {
		add(m.Name)
		assert.NotEqual(t, Faults{}, m.Faults, m.Name)
		assert.False(t, used[m.Faults], "%s is a variant that holds", m.Name)
	}
}

// The same state is found again: the walk does not depend on the order in which Go hashes.
func TestCountsAreStable(t *testing.T) {
	c := scenario(t, "replace")
	a, b := Check(c, Faults{}), Check(c, Faults{})
	assert.Equal(t, a.States, b.States)
	assert.Equal(t, a.Transitions, b.Transitions)
}

func TestTraceLeadsToTheViolation(t *testing.T) {
	r := Check(scenario(t, "pin"), Faults{pinLost: true})
	require.Equal(t, "I8", r.Rule)
	assert.Contains(t, strings.Join(r.Trace, "\n"), "pin: flag is 1")
	assert.Contains(t, r.Trace[len(r.Trace)-1], "unlock")
}
