// Mutations takes each mechanism of the library out, one at a time, and runs the test that must fail without it. A test that
// passes nevertheless protects nothing, and the program ends with an error.
//
//	go run ./tests/mutations [-only TEXT] [-list]
//
// The work tree is left alone: Go files are replaced by an overlay of the build, C and Python files by a copy.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// edit replaces old, which is in the file exactly once, by new.
type edit struct{ file, old, new string }

// mutation is a mechanism and the test that fails without it.
type mutation struct {
	promise, mechanism string
	test               string // a test of a Go package or of tests/python, or a program of tests/capi with its arguments
	where              string // the package, or one of those below
	flags              []string
	edits              []edit
}

const (
	standin = "standin" // the C of the library over the tests' stand-in for Go
	library = "library" // the whole library
	python  = "python"  // the whole library, in Python; test is a node of pytest
)

var errDrifted = errors.New("the mutation does not fit the source any more")

func main() {
	only := flag.String("only", "", "run the mutations whose promise, mechanism, test or place (python, library, standin, a package) contains this")
	list := flag.Bool("list", false, "only say what there is")
	flag.Parse()
	rows := slices.DeleteFunc(slices.Concat(goMutations, jobMutations, rdmaMutations, tierMutations, diskMutations, tieredMutations, cMutations, pythonMutations), func(m mutation) bool {
		return !strings.Contains(m.promise+" "+m.mechanism+" "+m.where+" "+m.test, *only)
	})
	if *list {
		for _, m := range rows {
			m.print("-")
		}
		return
	}
	if !judgeAll(rows) {
		os.Exit(1)
	}
}

// judgeAll prints what became of each row and of each promise. False: a mechanism is not protected by its test.
func judgeAll(rows []mutation) bool {
	without, broken := readyForPython(rows)
	count := tally{}
	fmt.Printf("%-7s  %-52s  %-46s  %s\n", "promise", "mechanism taken out", "test", "result")
	for _, m := range rows {
		var v verdict
		switch {
		case m.where == python && without != "":
			v = verdict{skipped, "skipped: " + without}
		case m.where == python && broken != nil:
			v = verdict{undetected, broken.Error()}
		default:
			v = m.verdict()
		}
		m.print(v.text)
		count.add(m, v)
	}
	return count.report()
}

func (m mutation) print(result string) {
	fmt.Printf("%-7s  %-52s  %-46s  %s\n", m.promise, m.mechanism, m.test, result)
}

func (m mutation) verdict() verdict {
	judge := m.judge
	if m.where == python {
		judge = m.judgePython
	}
	text, ok := judge()
	if !ok {
		return verdict{undetected, text}
	}
	return verdict{detected, text}
}

// judge runs the test over the mutated source. It has to fail, by itself: a mutation that does not compile shows nothing.
func (m mutation) judge() (result string, ok bool) {
	dir, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return err.Error(), false
	}
	defer os.RemoveAll(dir)
	files, err := m.mutate(dir)
	if err != nil {
		return err.Error(), false
	}
	builds, run := m.commands(dir, files)
	for _, build := range builds {
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Sprintf("DOES NOT BUILD: %s", out), false
		}
	}
	began := time.Now()
	if err := run.Run(); err == nil {
		return "NOT DETECTED", false
	}
	return fmt.Sprintf("detected, %.1f s", time.Since(began).Seconds()), true
}

// mutate writes the changed files to dir and gives their paths by those of the originals.
func (m mutation) mutate(dir string) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range m.edits {
		from := e.file
		if to, again := files[e.file]; again {
			from = to
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if strings.Count(string(text), e.old) != 1 {
			return nil, fmt.Errorf("%w: %q is %d times in %s", errDrifted, e.old, strings.Count(string(text), e.old), e.file)
		}
		to := filepath.Join(dir, filepath.Base(e.file))
		files[e.file] = to
		if err := os.WriteFile(to, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// patience is how long a test may run that a mutation has made hang.
const patience = 30 * time.Second

func limited(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { cancel(); return cmd.Process.Kill() }
	return cmd
}

// commands are those that build the test and the one that runs it.
func (m mutation) commands(dir string, files map[string]string) (builds []*exec.Cmd, run *exec.Cmd) {
	binary := filepath.Join(dir, "test")
	words := strings.Fields(m.test)
	switch m.where {
	case standin:
		builds = append(builds, program(words[0], binary, append(append([]string{"tests/capi/standin.c"}, replaced("capi/*.c", files)...), m.flags...)))
	case library:
		so := filepath.Join(dir, "libmoorage.so")
		builds = append(builds,
			exec.Command("go", "build", "-buildmode=c-shared", overlay(dir, files), "-o", so, "./capi"),
			program(words[0], binary, []string{so, "-Wl,-rpath," + dir}))
	default:
		args := append([]string{"test", "-c", "-vet=off", overlay(dir, files), "-o", binary}, m.flags...)
		builds = append(builds, exec.Command("go", append(args, "./"+m.where)...))
		run = limited(binary, "-test.run", "^("+m.test+")$", "-test.failfast", "-test.timeout", "20s")
		run.Dir = m.where
		return builds, run
	}
	run = limited(binary, words[1:]...)
	run.Env = append(os.Environ(), "MOOR_TMP="+dir)
	return builds, run
}

// overlay is the option that has go build take other files.
func overlay(dir string, files map[string]string) string {
	all := struct{ Replace map[string]string }{map[string]string{}}
	for from, to := range files {
		if path, err := filepath.Abs(from); err == nil {
			all.Replace[path] = to
		}
	}
	text, _ := json.Marshal(all) // strings only
	list := filepath.Join(dir, "overlay.json")
	_ = os.WriteFile(list, text, 0o600) // go build says if it is missing
	return "-overlay=" + list
}

// replaced are the C files of a pattern, the mutated ones in the place of the originals.
func replaced(pattern string, files map[string]string) (all []string) {
	sources, _ := filepath.Glob(pattern) // the pattern is well formed
	for _, f := range sources {
		switch to := files[f]; {
		case strings.HasPrefix(filepath.Base(f), "py"): // needs a Python
		case to != "":
			all = append(all, to)
		default:
			all = append(all, f)
		}
	}
	return all
}

func program(name, binary string, with []string) *exec.Cmd {
	args := []string{"-std=gnu11", "-g", "-O1", "-Iinclude", "-Icapi", "-Itests/capi", filepath.Join("tests", "capi", name+".c")}
	return exec.Command("cc", append(append(args, with...), "-o", binary, "-lpthread", "-ldl")...)
}
