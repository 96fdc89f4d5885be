package core

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moorage/core/safetensors"
)

// FileOptions are the options of Import and Export.
type FileOptions struct {
	IfExists IfExists
	// Progress, if set, is called from the calling goroutine now and then; false stops with ErrCancelled.
	Progress func(done, total uint64) bool
}

const (
	filePiece   = 8 << 20 // bytes read or written at a time
	fileWorkers = 4       // at most
)

// Import reads every tensor of a safetensors file from the file straight into the store and stores it under prefix + its name.
// The names appear when everything was read, as one atomic set; after an error nothing was stored.
func (s *Store) Import(path string, prefix []byte, o FileOptions) (count int, err error) {
	const op = "import"
	gate := s.anyShard()
	if !gate.enter(s) {
		return 0, fail(op, ErrClosed)
	}
	defer gate.leave()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // opening a pipe must not wait for its writer
	if err != nil {
		return 0, failf(op, safetensors.ErrIO, "path: %w", err)
	}
	defer f.Close()
	all, base, err := readHeader(f)
	if errors.Is(err, safetensors.ErrDType) {
		return 0, failf(op, ErrUnsupported, "%s: %w", path, err)
	}
	if err != nil {
		return 0, fail(op, fmt.Errorf("%s: %w", path, err))
	}
	set := newSet(s, op, PutOptions{IfExists: o.IfExists}, len(all))
	defer set.drop()
	t := &transfer{closing: &s.control.Closing, progress: o.Progress}
	for _, x := range all {
		key := append(append([]byte(nil), prefix...), x.Name...)
		if err := set.want(key, x.End-x.Begin, len(x.Shape)); err != nil {
			return 0, err
		}
	}
	if err := set.ready(); err != nil {
		return 0, err
	}
	for i, x := range all {
		to, err := set.add(i, contentOf(x.DType, x.Shape))
		if err != nil {
			return 0, err
		}
		if to != 0 {
			t.add(to, base+x.Begin, x.End-x.Begin)
		}
	}
	if err := t.run(func(p piece) error { return readAt(f, p) }); err != nil {
		return 0, fail(op, err)
	}
	s.counters.copiedIn.Add(t.total)
	stored, err := set.publish()
	if err == nil {
		err = set.through()
	}
	return stored, err
}

// readHeader gives the tensors of a file and where the data begins.
func readHeader(f *os.File) (all []safetensors.Tensor, base uint64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", safetensors.ErrIO, err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: not a regular file", safetensors.ErrIO)
	}
	size := uint64(info.Size())
	var field [safetensors.LengthSize]byte
	if size >= safetensors.LengthSize {
		if _, err := f.ReadAt(field[:], 0); err != nil {
			return nil, 0, fmt.Errorf("%w: %w", safetensors.ErrIO, err)
		}
	}
	n, err := safetensors.Length(field, size)
	if err != nil {
		return nil, 0, err
	}
	header := make([]byte, n)
	if _, err := f.ReadAt(header, safetensors.LengthSize); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", safetensors.ErrIO, err)
	}
	base = safetensors.LengthSize + n
	all, err = safetensors.Parse(header, size-base)
	return all, base, err
}

// Export writes the objects into a new safetensors file, each under its key less the first cut bytes. The file appears
// complete or not at all. Objects without a dtype are one-dimensional uint8.
func (s *Store) Export(path string, keys [][]byte, cut int, o FileOptions) error {
	const op = "export"
	views := make(map[string]View, len(keys))
	defer func() {
		for _, v := range views {
			v.Release()
		}
	}()
	all, err := s.exported(op, keys, cut, views)
	if err != nil {
		return err
	}
	header, err := safetensors.Arrange(all)
	if errors.Is(err, safetensors.ErrDType) {
		return failf(op, ErrUnsupported, "%w", err)
	}
	if err != nil {
		return failf(op, ErrInvalid, "%w", err)
	}
	t := &transfer{closing: new(atomic.Uint32), progress: o.Progress}
	for _, x := range all {
		v := views[x.Name]
		t.add(v.Addr(), uint64(len(header))+x.Begin, v.Size())
	}
	if err := writeWhole(path, header, t); err != nil {
		return fail(op, err)
	}
	if len(views) > 0 { // else the store may have been closed and unmapped meanwhile
		s.control.CopiedOut.Add(t.total)
	}
	return nil
}

// exported borrows the objects under keys, by their names in the file, and says what they are.
func (s *Store) exported(op string, keys [][]byte, cut int, views map[string]View) ([]safetensors.Tensor, error) {
	gate := s.anyShard()
	if !gate.enter(s) {
		return nil, fail(op, ErrClosed)
	}
	defer gate.leave()
	all := make([]safetensors.Tensor, 0, len(keys))
	for _, key := range keys {
		if cut > len(key) {
			return nil, failf(op, ErrInvalid, "prefix_size %d is longer than key %q", cut, key)
		}
		name := string(key[cut:])
		if _, twice := views[name]; twice {
			return nil, failf(op, ErrInvalid, "two keys have the name %q in the file", name)
		}
		v, err := s.Get(key)
		if err != nil {
			return nil, failf(op, err, "key %q", key)
		}
		views[name] = v
		t := safetensors.Tensor{Name: name, DType: v.DType(), Shape: v.Shape()}
		if !v.IsTensor() {
			t.DType, t.Shape = bytesDType, []int64{int64(v.Size())}
		}
		all = append(all, t)
	}
	return all, nil
}

// transfer moves pieces between a file and memory, with a few goroutines.
type transfer struct {
	closing  *atomic.Uint32
	progress func(done, total uint64) bool
	pieces   []piece
	total    uint64
}

type piece struct {
	addr uintptr
	at   uint64 // in the file
	size uint64
}

func (t *transfer) add(addr uintptr, at, size uint64) {
	t.total += size
	for size > 0 {
		n := min(size, filePiece)
		t.pieces = append(t.pieces, piece{addr, at, n})
		addr, at, size = addr+uintptr(n), at+n, size-n
	}
}

// run has do move all pieces. It returns when no goroutine is at it any more.
func (t *transfer) run(do func(piece) error) error {
	var next, done atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	workers := min(fileWorkers, runtime.GOMAXPROCS(0), len(t.pieces))
	errs := make(chan error, workers)
	tick := make(chan struct{}, 1)
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < uint64(len(t.pieces)) && !stop.Load() && t.closing.Load() == 0; i = next.Add(1) - 1 {
				if err := do(t.pieces[i]); err != nil {
					stop.Store(true)
					errs <- err
					return
				}
				done.Add(t.pieces[i].size)
				select {
				case tick <- struct{}{}:
				default:
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	cancelled := false
	for waiting := true; waiting; {
		select {
		case <-finished:
			waiting = false
		case <-tick:
		}
		if t.progress != nil && !cancelled && !t.progress(done.Load(), t.total) {
			cancelled = true
			stop.Store(true)
		}
	}
	select {
	case err := <-errs:
		return err
	default:
	}
	switch {
	case cancelled:
		return fmt.Errorf("%w, or progress said stop", ErrCancelled)
	case t.closing.Load() != 0:
		return ErrCancelled
	}
	return nil
}

func ioError(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file became shorter while it was read", safetensors.ErrIO)
	}
	return fmt.Errorf("%w: %w", safetensors.ErrIO, err)
}
