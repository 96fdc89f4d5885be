// Command pinmodel checks the model of the arena: every scenario and variant must hold, every mutation
// must break its rule.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"moorage/core/arena/model"
)

var (
	trace = flag.Bool("trace", false, "print a shortest trace of each violation")
	only  = flag.String("only", "", "run the scenario, variant or mutation of this `name`")
	list  = flag.Bool("list", false, "print the names and what they stand for")
)

func main() {
	flag.Parse()
	debug.SetGCPercent(200)
	debug.SetMemoryLimit(1 << 30) // a soft one: collect harder above it
	ok, ran := true, false
	byName := map[string]model.Scenario{}
	for _, c := range model.Scenarios() {
		byName[c.Name] = c
		if skip(c.Name, "scenario") {
			continue
		}
		ran = true
		ok = holds(c.Name, model.Check(c, model.Faults{})) && ok
	}
	for _, v := range model.Variants() {
		if skip(v.Name, v.What) {
			continue
		}
		ran = true
		for _, name := range v.Scenarios {
			ok = holds(name+" with "+v.Name, model.Check(byName[name], v.Faults)) && ok
		}
	}
	for _, m := range model.Mutations() {
		if skip(m.Name, m.What) {
			continue
		}
		ran = true
		ok = breaks(m, model.Check(byName[m.Scenario], m.Faults)) && ok
	}
	if !ran && !*list {
		fmt.Fprintf(os.Stderr, "pinmodel: nothing is called %q; -list prints the names\n", *only)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// skip says whether name is not to be run; with -list it prints it.
func skip(name, what string) bool {
	if *only != "" && *only != name {
		return true
	}
	if *list {
		fmt.Printf("%-19s %s\n", name, what)
	}
	return *list
}

func holds(name string, r model.Result) bool {
	fmt.Printf("%-29s %9d states %10d transitions %6.1fs  ", name, r.States, r.Transitions, r.Took.Seconds())
	if r.Rule == "" {
		fmt.Println("holds")
		return true
	}
	fmt.Printf("BROKEN %s: %s\n    %s\n", r.Rule, r.How, strings.Join(r.Trace, "\n    "))
	return false
}

func breaks(m model.Mutation, r model.Result) bool {
	verdict := r.Rule + ": " + r.How
	switch r.Rule {
	case m.Rule:
	case "":
		verdict = "NOT FOUND, " + m.Rule + " should break"
	default:
		verdict += " (but " + m.Rule + " should break)"
	}
	fmt.Printf("%-19s %-10s %2d steps  %s\n%35s -> %s\n", m.Name, m.Scenario, len(r.Trace), m.What, "", verdict)
	if *trace {
		fmt.Printf("    %s\n", strings.Join(r.Trace, "\n    "))
	}
	return r.Rule == m.Rule
}
