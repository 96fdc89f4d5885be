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

// getTimed is get, of a store that keeps times.
func (s *Store) getTimed(key []byte) (View, error) {
	r := timing.Record{Kind: timing.Get, Stamps: timing.Stamps{T0: timing.Now()}}
	v, err := s.get(key)
	if err == nil {
		r.Bytes, r.Stamps = v.Size(), timing.Hit(r.T0, timing.Now())
		s.tiered.timings.Add(r)
	}
	return v, err
}

// putTimed is copyPut, of a store that keeps times. What is before the copy is the wait for memory.
func (s *Store) putTimed(key []byte, size uint64, v index.Content, o PutOptions, fill func(dst uintptr) bool) (PutResult, error) {
	t := timing.Record{Kind: timing.Put, Bytes: size, Stamps: timing.Hit(timing.Now(), 0)}
	r, err := s.copyPut(key, size, v, o, func(dst uintptr) bool {
		began := timing.Now()
		defer func() { t.BufferWait, t.Copy = began-t.T0, timing.Now()-began }()
		return fill(dst)
	})
	s.tiered.record(&t, err)
	return r, err
}

// addIO takes over what the disk measured.
func addIO(r *timing.Record, io *tier.IO) {
	r.T1, r.T2 = io.First, io.Last
	r.QueueWait, r.Submit, r.Complete = io.Wait, io.Submit, io.Reap
	r.Verify, r.VerifyOverlapped, r.Copy = io.Verify, io.VerifyOverlapped, io.Copy
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
