package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core/tier/timing"
)

// recorder is where a store keeps its times.
func recorder(id C.uint64_t) (*timing.Recorder, C.int32_t) {
	s, ok := stores.Get(uint64(id))
	if !ok {
		return nil, badHandle("store")
	}
	rec, err := s.Recorder()
	if err != nil {
		return nil, failed(err)
	}
	return rec, C.MOOR_OK
}

//export moorgo_get_timings
func moorgo_get_timings(id C.uint64_t, timings *C.moor_timing, size C.uint64_t, countOut *C.uint64_t, infoOut *C.moor_timings_info) (st C.int32_t) {
	defer guard(&st)
	rec, st := recorder(id)
	if st != C.MOOR_OK {
		return st
	}
	v := rec.Snapshot()
	given := unsafe.Slice(timings, min(uint64(size), uint64(len(v.Kinds))))
	for i := range given {
		giveTiming(&v.Kinds[i], &given[i])
	}
	cost := timing.Overhead()
	*infoOut = C.moor_timings_info{
		recorded: C.uint64_t(v.Records), inconsistent: C.uint64_t(v.Inconsistent),
		trace_written: C.uint64_t(v.Trace.Written), trace_dropped: C.uint64_t(v.Trace.Dropped),
		stamp_ps: C.uint64_t(1000 * cost.Stamp), record_ps: C.uint64_t(1000 * cost.Record),
	}
	*countOut = C.uint64_t(len(v.Kinds))
	return C.MOOR_OK
}

func giveTiming(v *timing.Summary, out *C.moor_timing) {
	*out = C.moor_timing{
		kind: C.uint32_t(v.Kind), outcome: C.uint32_t(v.Class), count: C.uint64_t(v.Count),
		failed: C.uint64_t(v.Failed), cancelled: C.uint64_t(v.Cancelled), bytes: C.uint64_t(v.Bytes),
		shared: C.uint64_t(v.Shared), chunks: C.uint64_t(v.Chunks),
		chunk_sum: C.int64_t(v.ChunkSum), chunk_max: C.int64_t(v.ChunkMax),
	}
	for i, n := range v.Paths {
		out.paths[i] = C.uint64_t(n)
	}
	for m, to := range map[timing.Measure]*C.moor_distribution{
		timing.Total: &out.total, timing.Device: &out.device, timing.Host: &out.host, timing.Lookup: &out.lookup,
		timing.QueueWait: &out.queue_wait, timing.BufferWait: &out.buffer_wait, timing.Submit: &out.submit,
		timing.Complete: &out.complete, timing.Verify: &out.verify, timing.Copy: &out.copy, timing.Other: &out.other,
		timing.VerifyOverlapped: &out.verify_overlapped,
	} {
		d := &v.Times[m]
		*to = C.moor_distribution{
			count: C.uint64_t(d.Count), sum: C.int64_t(d.Sum), min: C.int64_t(d.Min), max: C.int64_t(d.Max),
			p50: C.int64_t(d.Quantile(0.5)), p95: C.int64_t(d.Quantile(0.95)), p99: C.int64_t(d.Quantile(0.99)),
			p999: C.int64_t(d.Quantile(0.999)),
		}
	}
}

//export moorgo_list_operations
func moorgo_list_operations(id C.uint64_t, operations *C.moor_operation, size C.uint64_t, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	rec, st := recorder(id)
	if st != C.MOOR_OK {
		return st
	}
	var last []timing.Record
	if size > 0 {
		last = rec.Recent(int(min(uint64(size), 1<<30)))
	}
	given := unsafe.Slice(operations, len(last))
	for i := range given {
		giveOperation(&last[i], &given[i])
	}
	*countOut = C.uint64_t(len(last))
	return C.MOOR_OK
}

func giveOperation(v *timing.Record, out *C.moor_operation) {
	*out = C.moor_operation{
		sequence: C.uint64_t(v.Sequence), kind: C.uint32_t(v.Kind), outcome: C.uint32_t(v.Class),
		path: C.uint32_t(v.Path), durability: C.uint32_t(v.Durability), depth: C.uint32_t(v.Depth),
		chunks: C.uint32_t(v.Chunks), bytes: C.uint64_t(v.Bytes),
		t0: C.int64_t(v.T0), t1: C.int64_t(v.T1), t2: C.int64_t(v.T2), t3: C.int64_t(v.T3),
		lookup: C.int64_t(v.Lookup), queue_wait: C.int64_t(v.QueueWait), buffer_wait: C.int64_t(v.BufferWait),
		submit: C.int64_t(v.Submit), complete: C.int64_t(v.Complete), verify: C.int64_t(v.Verify),
		copy: C.int64_t(v.Copy), verify_overlapped: C.int64_t(v.VerifyOverlapped),
		chunk_min: C.int64_t(v.ChunkMin), chunk_max: C.int64_t(v.ChunkMax), chunk_sum: C.int64_t(v.ChunkSum),
	}
	if v.Shared {
		out.flags |= C.MOOR_OPERATION_SHARED
	}
}
