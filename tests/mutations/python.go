package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pythonTests is where the rows of Python have their tests; test is a node of pytest relative to it.
const pythonTests = "tests/python"

// packages is where Python finds the package.
const packages = "python/src"

// pythonPatience is longer than that of a test which counts a hanging child itself.
const pythonPatience = 60 * time.Second

// pythonSetting names the interpreter. It needs pytest and numpy; torch is not used by any row.
const pythonSetting = "PYTHON"

// Answers of pytest that are about the tests, not about how it was called.
const (
	pytestPassed = 0
	pytestFailed = 1
)

// readyForPython says why the rows of Python cannot run, if they cannot, and what is wrong with their tests if one fails
// anyway: it would detect anything.
func readyForPython(rows []mutation) (without string, broken error) {
	if !slices.ContainsFunc(rows, func(m mutation) bool { return m.where == python }) {
		return "", nil
	}
	interpreter := os.Getenv(pythonSetting)
	if interpreter == "" {
		return pythonSetting + " names no Python with pytest and numpy", nil
	}
	if out, err := exec.Command(interpreter, "-c", "import numpy, pytest, pytest_timeout").CombinedOutput(); err != nil {
		return fmt.Sprintf("%s: %s", interpreter, lastLine(out)), nil
	}
	return "", unmutated(rows)
}

// unmutated runs the tests of these rows against the library as it is.
func unmutated(rows []mutation) error {
	dir, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var nodes []string
	seen := map[string]bool{}
	for _, m := range rows {
		if m.where == python && !seen[m.test] {
			seen[m.test] = true
			nodes = append(nodes, m.test)
		}
	}
	if err := (mutation{}).library(dir, nil); err != nil {
		return err
	}
	out, code, err := pytest(dir, packages, time.Duration(len(nodes))*pythonPatience, nodes...)
	if err != nil {
		return err
	}
	if code != pytestPassed || strings.Contains(out, " skipped") {
		return fmt.Errorf("without any mutation: %s", lastLine([]byte(out)))
	}
	return nil
}

// library builds the shared library of the mutated sources into dir.
func (mutation) library(dir string, files map[string]string) error {
	so := filepath.Join(dir, "libmoorage.so")
	build := exec.Command("go", "build", "-buildmode=c-shared", overlay(dir, files), "-o", so, "./capi")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("DOES NOT BUILD: %s", out)
	}
	return nil
}

// judgePython is judge for a test of Python. A test that ends by a signal, or not at all, has failed as well.
func (m mutation) judgePython() (result string, ok bool) {
	dir, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return err.Error(), false
	}
	defer os.RemoveAll(dir)
	files, err := m.mutate(dir)
	if err != nil {
		return err.Error(), false
	}
	if err := m.library(dir, files); err != nil {
		return err.Error(), false
	}
	sources, err := changedPackage(dir, files)
	if err != nil {
		return err.Error(), false
	}
	began := time.Now()
	out, code, err := pytest(dir, sources, pythonPatience, m.test)
	took := time.Since(began).Seconds()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("detected, it hangs (%.1f s)", took), true
	case err != nil:
		return err.Error(), false
	case code == pytestPassed:
		return "NOT DETECTED", false
	case code == pytestFailed && !strings.Contains(out, " failed"):
		return fmt.Sprintf("detected, by what the test left behind (%.1f s)", took), true
	case code == pytestFailed:
		return fmt.Sprintf("detected, %.1f s", took), true
	case code < 0:
		return fmt.Sprintf("detected, it crashes (%.1f s)", took), true
	default:
		return fmt.Sprintf("NO TEST RAN: %s", lastLine([]byte(out))), false
	}
}

// changedPackage is where Python finds the package: a copy with the mutated files in it, if any of them is Python's.
func changedPackage(dir string, files map[string]string) (string, error) {
	copied := filepath.Join(dir, "packages")
	where := packages
	for from, to := range files {
		inside, err := filepath.Rel(packages, from)
		if err != nil || filepath.Ext(from) != ".py" {
			continue
		}
		if where == packages {
			if err := os.CopyFS(copied, os.DirFS(packages)); err != nil {
				return "", err
			}
			where = copied
		}
		if err := os.Rename(to, filepath.Join(copied, inside)); err != nil {
			return "", err
		}
	}
	return where, nil
}

// pytest runs tests with the library in dir and the package of sources, and kills what they started and left. The code is negative when a signal ended it.
func pytest(dir, sources string, limit time.Duration, nodes ...string) (out string, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	args := []string{"-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", ".", "-q", "-x", "-p", "no:cacheprovider"}
	for _, n := range nodes {
		args = append(args, filepath.Join(pythonTests, n))
	}
	cmd := exec.CommandContext(ctx, os.Getenv(pythonSetting), args...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+sources, "PYTHONDONTWRITEBYTECODE=1", "TMPDIR="+dir,
		"MOORAGE_LIBRARY="+filepath.Join(dir, "libmoorage.so"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // forked children that a failed test has left
	if ctx.Err() != nil {
		return string(text), 0, ctx.Err()
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return string(text), ended.ExitCode(), nil
	}
	return string(text), 0, err
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
