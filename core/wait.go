package core

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// waits are those who wait for names. A put that nobody waits for pays one look at n.
type waits struct {
	n atomic.Int32

	mu     sync.Mutex
	closed bool
	all    map[*wait]struct{}
}

type wait struct {
	missing map[string]struct{}
	wake    chan struct{} // closed when none is missing any more, or with the store
}

// published tells those who wait that there is an object under key.
func (w *waits) published(key []byte) {
	if w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for x := range w.all {
		if _, wanted := x.missing[string(key)]; wanted {
			if delete(x.missing, string(key)); len(x.missing) == 0 {
				w.dismiss(x)
			}
		}
	}
}

// end wakes all. It is part of closing.
func (w *waits) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for x := range w.all {
		w.dismiss(x)
	}
}

// dismiss wakes one. mu is locked.
func (w *waits) dismiss(x *wait) {
	delete(w.all, x)
	w.n.Add(-1)
	close(x.wake)
}

func (w *waits) leave(x *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, there := w.all[x]; there {
		w.dismiss(x)
	}
}

func (w *waits) enter(keys [][]byte) *wait {
	x := &wait{missing: make(map[string]struct{}, len(keys)), wake: make(chan struct{})}
	for _, key := range keys {
		x.missing[string(key)] = struct{}{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		close(x.wake)
		return x
	}
	if w.all == nil {
		w.all = map[*wait]struct{}{}
	}
	w.all[x] = struct{}{}
	w.n.Add(1)
	return x
}

// Wait returns when there is an object under every key at one time, as a batch read sees it. ErrTimeout after timeout,
// which names a missing key; ErrCancelled when the store is closed meanwhile. A timeout of 0 looks once.
func (s *Store) Wait(keys [][]byte, timeout time.Duration) error {
	const op = "wait"
	gate := s.anyShard()
	if !gate.enter(s) {
		return fail(op, ErrClosed)
	}
	defer gate.leave()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		missing, err := s.missing(keys)
		if err != nil || len(missing) == 0 {
			return err
		}
		x := s.waits.enter(missing)
		// A name that came between the look and here is waited for in vain: look again.
		again, err := s.missing(keys)
		if err != nil {
			s.waits.leave(x)
			return err
		}
		if slices.EqualFunc(missing, again, bytes.Equal) {
			select {
			case <-x.wake:
			case <-timer.C:
				s.waits.leave(x)
				return failf(op, ErrTimeout, "%d of %d keys are missing, the first is %q", len(missing), len(keys), missing[0])
			}
		}
		s.waits.leave(x)
		if s.closed.Load() != 0 {
			return fail(op, ErrCancelled)
		}
	}
}

// missing gives the keys without an object, as they are between two sets.
func (s *Store) missing(keys [][]byte) (missing [][]byte, err error) {
	s.BetweenSets(func() {
		for _, key := range keys {
			there, failed := s.Exists(key)
			if failed != nil { // closed, after we were let in
				err = fail("wait", ErrCancelled)
				return
			}
			if !there {
				missing = append(missing, key)
			}
		}
	})
	return missing, err
}
