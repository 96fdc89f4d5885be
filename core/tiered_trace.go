package core

import (
	"context"
	"errors"
	"os"
	"time"

	"moorage/core/tier/timing"
)

// traceFile is where a store writes down what its operations took. Nil has none.
type traceFile struct {
	file *os.File
	to   *timing.Trace
}

// traceEnd is how long a close waits for a file that does not take the last lines.
const traceEnd = 5 * time.Second

func openTrace(path string) (*traceFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return &traceFile{f, timing.NewTrace(f)}, nil
}

func (t *traceFile) lines() *timing.Trace {
	if t == nil {
		return nil
	}
	return t.to
}

func (t *traceFile) close() error {
	if t == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), traceEnd)
	defer stop()
	return errors.Join(t.to.Close(ctx), t.file.Close())
}
