package core

import (
	"errors"

	"moorage/core/index"
	"moorage/core/tier"
	"moorage/core/tier/timing"
)

// record ends an operation, and takes its times up.
func (t *tiered) record(r *timing.Record, err error) {
	switch {
	case errors.Is(err, ErrCancelled):
		r.Class = timing.Cancelled
	case err != nil:
		r.Class = timing.Failed
	}
	if !r.Shared {
		r.End(timing.Now())
	}
	t.timings.Add(*r)
}

// recordFound is record of an operation that is none when there is no such object.
func (t *tiered) recordFound(r *timing.Record, err error) {
	if !errors.Is(err, ErrNotFound) {
		t.record(r, err)
	}
}

// synced makes what was waited for since began the device's time: what is written goes through the page cache.
func (t *tiered) synced(r *timing.Record, began int64) {
	r.T1, r.T2, r.Durability, r.Path = began, timing.Now(), timing.Each, timing.Buffered
	if t.opts.FS != nil {
		r.Path = timing.Layer
	}
}

// getTimed is get, of a store that keeps times. since: see JobRequest.
func (s *Store) getTimed(kind timing.Kind, key []byte, since int64) (View, error) {
	r := timing.Queued(kind, since)
	v, err := s.get(key)
	if err == nil {
		r.Bytes, r.Stamps = v.Size(), timing.Hit(r.T0, timing.Now())
		s.tiered.timings.Add(r)
	}
	return v, err
}

// putTimed is copyPut, of a store that keeps times. What is before the copy is the wait for memory.
func (s *Store) putTimed(key []byte, size uint64, v index.Content, o PutOptions, fill func(dst uintptr) bool) (r PutResult, err error) {
	t := timing.Queued(timing.Put, o.since)
	t.Bytes = size
	defer func() { s.tiered.record(&t, err) }()
	begun := timing.Now()
	p := s.at(key)
	if !p.enter(s) {
		return PutResult{}, fail("put", ErrClosed)
	}
	defer p.leave()
	r, err = s.copyPut(key, size, v, o, func(dst uintptr) bool {
		at := timing.Now()
		defer func() { t.BufferWait, t.Copy = at-begun, timing.Now()-at }()
		return fill(dst)
	})
	if err == nil && r.Outcome != Kept {
		err = s.through("put", key, &t)
	}
	return r, err
}

// addIO takes over what the disk measured.
func addIO(r *timing.Record, io *tier.IO) {
	r.T1, r.T2 = io.First, io.Last
	r.QueueWait, r.Copy = r.QueueWait+io.Wait, r.Copy+io.Copy
	r.Submit, r.Complete, r.Verify, r.VerifyOverlapped = io.Submit, io.Reap, io.Verify, io.VerifyOverlapped
	r.Overlapped = io.VerifyOverlapped > 0
	r.Path, r.Bytes = timing.Path(io.Path)+1, uint64(io.Bytes)
	if io.Mapped {
		r.Path = timing.Mapped
	}
	r.Chunks, r.Depth = uint32(io.Chunks), uint32(io.Depth)
	r.ChunkMin, r.ChunkMax, r.ChunkSum = io.ChunkMin, io.ChunkMax, io.ChunkSum
}

// addSync makes what a commit waited for part of the device's time. What was between is host: the first stamp is counted back.
func addSync(r *timing.Record, draft *tier.Draft, d tier.Durability) {
	r.Durability = [...]timing.Durability{tier.Batch: timing.Batch, tier.None: timing.None, tier.Each: timing.Each}[d]
	if from, to := draft.Waited(); to != 0 {
		r.T1, r.T2 = from-r.Device(), to
	}
}

// Timings say where the time of the operations went; nil without a disk.
func (s *Store) Timings() *timing.Recorder {
	if s.tiered == nil {
		return nil
	}
	return s.tiered.timings
}

// Recorder is Timings, or why there are none.
func (s *Store) Recorder() (*timing.Recorder, error) {
	const op = "timings"
	switch {
	case s.closed.Load() != 0:
		return nil, fail(op, ErrClosed)
	case s.tiered == nil:
		return nil, fail(op, errNoDisk)
	}
	return s.tiered.timings, nil
}

// timed are the kinds of jobs as their keys are recorded.
var timed = [...]timing.Kind{
	JobGet: timing.Get, JobGetInto: timing.GetInto, JobPut: timing.Put, JobPrefetch: timing.Prefetch, JobExists: timing.Exists,
	JobRemove: timing.Remove, JobPersist: timing.Persist,
}

// recordRefused is the record of a key that was not begun.
func (j *Job) recordRefused() {
	if t := j.s.tiered; t != nil {
		r := timing.Queued(timed[j.request.Kind], j.submitted)
		t.record(&r, ErrCancelled)
	}
}
