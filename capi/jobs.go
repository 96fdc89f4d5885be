package main

// #include "exports.h"
import "C"

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"moorage/capi/internal/handle"
	"moorage/core"
	"moorage/core/tensor"
)

var (
	queues = handle.NewTable[*core.Queue](5)
	jobs   = handle.NewTable[*job](6)
)

// job is what a job's handle leads to. It keeps its store, which may be closed.
type job struct {
	*core.Job
	s *store
}

//export moorgo_queue_open
func moorgo_queue_open(out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	q, err := core.NewQueue()
	if err != nil {
		return failed(err)
	}
	id, err := queues.Add(q)
	if err != nil {
		_ = q.Close()
		return failed(err)
	}
	*out = C.uint64_t(id)
	return C.MOOR_OK
}

//export moorgo_queue_close
func moorgo_queue_close(id C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	q, ok := queues.Remove(uint64(id))
	if !ok {
		return badHandle("queue")
	}
	return status(q.Close())
}

//export moorgo_queue_get_fd
func moorgo_queue_get_fd(id C.uint64_t, out *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	q, ok := queues.Get(uint64(id))
	if !ok {
		return badHandle("queue")
	}
	*out = C.int32_t(q.FD())
	return C.MOOR_OK
}

// drainPiece is how many completions are taken at a time: room for them is on the stack.
const drainPiece = 32

//export moorgo_queue_drain
func moorgo_queue_drain(id C.uint64_t, out *C.moor_completion, room C.uint64_t, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	q, ok := queues.Get(uint64(id))
	if !ok {
		return badHandle("queue")
	}
	var piece [drainPiece]core.Completion
	count := C.uint64_t(0)
	for count < room {
		n := q.Drain(piece[:min(drainPiece, room-count)])
		for i := range piece[:n] {
			c := &piece[i]
			giveCompletion(c.Job, c.Index, c.Last, &c.Result, nth(out, int(count)))
			count++
		}
		if n < drainPiece {
			break
		}
	}
	*countOut = count
	return C.MOOR_OK
}

func giveCompletion(j *core.Job, index int, last bool, r *core.Result, out *C.moor_completion) {
	*out = C.moor_completion{
		job: C.moor_job{id: C.uint64_t(j.ID())}, tag: C.uint64_t(j.Tag()), index: C.uint64_t(index), status: statusOf(r.Err),
		value: C.uint64_t(r.Value), outcome: C.uint32_t(r.Put.Outcome), wait_ns: C.uint64_t(r.Wait), run_ns: C.uint64_t(r.Run),
	}
	if index < 0 {
		out.index = C.MOOR_ALL
	}
	if last {
		out.flags = C.MOOR_COMPLETION_LAST
	}
	if r.Put.Seq != 0 {
		out.value = C.uint64_t(r.Put.Seq)
	}
}

// start submits a job that has its handle already: a completion may be drained before this returns.
func start(storeID, queueID, tag C.uint64_t, r core.JobRequest, out *C.uint64_t) C.int32_t {
	s, ok := stores.Get(uint64(storeID))
	if !ok {
		return badHandle("store")
	}
	q, ok := queues.Get(uint64(queueID))
	if !ok {
		return badHandle("queue")
	}
	r.Tag = uint64(tag)
	j, err := s.NewJob(q, r)
	if err != nil {
		return failed(err)
	}
	id, err := jobs.Add(&job{j, s})
	if err != nil {
		return failed(err)
	}
	j.Name(id)
	if err := j.Submit(); err != nil {
		jobs.Remove(id)
		return failed(err)
	}
	*out = C.uint64_t(id)
	return C.MOOR_OK
}

//export moorgo_submit_keys
func moorgo_submit_keys(id, queue C.uint64_t, kind C.uint32_t, packed C.moor_ckeys, tag C.uint64_t, out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	return start(id, queue, tag, core.JobRequest{Kind: core.JobKind(kind), Keys: keysOf(packed).all()}, out)
}

//export moorgo_submit_get_into
func moorgo_submit_get_into(id, queue C.uint64_t, packed C.moor_ckeys, offsets, nbytes C.moor_cu64, spans C.moor_cspans,
	spanEnds C.moor_cu64, tag C.uint64_t, out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	k := keysOf(packed)
	into := make([]core.Into, k.len())
	if len(into) > 0 {
		ends := unsafe.Slice((*C.uint64_t)(spanEnds), len(into))
		all := unsafe.Slice((*core.Span)(unsafe.Pointer(spans)), ends[len(ends)-1])
		for i := range into {
			from, to := span(ends, i)
			into[i] = core.Into{Bytes: core.All, Spans: all[from:to]}
			if offsets != nil {
				into[i].Offset = uint64(*nth((*C.uint64_t)(offsets), i))
			}
			if nbytes != nil {
				into[i].Bytes = uint64(*nth((*C.uint64_t)(nbytes), i))
			}
		}
	}
	return start(id, queue, tag, core.JobRequest{Kind: core.JobGetInto, Keys: k.all(), Into: into}, out)
}

var (
	_ = same[C.sizeof_moor_span-unsafe.Sizeof(core.Span{})]
	_ = same[unsafe.Offsetof(C.moor_span{}.size)-unsafe.Offsetof(core.Span{}.Size)]
)

//export moorgo_submit_put
func moorgo_submit_put(id, queue C.uint64_t, packed C.moor_ckeys, parts C.moor_cparts, partEnds C.moor_cu64,
	options C.moor_cput_options, tag C.uint64_t, out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	k := keysOf(packed)
	items := make([]core.Item, k.len())
	if len(items) > 0 {
		ends := unsafe.Slice((*C.uint64_t)(partEnds), len(items))
		all := partsOf(parts, ends[len(ends)-1])
		for i := range items {
			from, to := span(ends, i)
			items[i] = core.Item{Key: k.at(i), Parts: all[from:to]}
		}
	}
	return start(id, queue, tag, putRequest(items, options), out)
}

//export moorgo_submit_put_tensors
func moorgo_submit_put_tensors(id, queue C.uint64_t, packed C.moor_ckeys, tensors C.moor_ctensors,
	options C.moor_cput_options, tag C.uint64_t, out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	k := keysOf(packed)
	items, sources := make([]core.Item, k.len()), make([]tensor.Source, k.len())
	all := unsafe.Slice((*C.moor_ctensor)(unsafe.Pointer(tensors)), k.len())
	for i := range items {
		sources[i] = sourceOf(all[i])
		items[i] = core.Item{Key: k.at(i), Tensor: &sources[i]}
	}
	return start(id, queue, tag, putRequest(items, options), out)
}

func putRequest(items []core.Item, options C.moor_cput_options) core.JobRequest {
	return core.JobRequest{
		Kind: core.JobPut, Items: items, Put: putOptions(options),
		Atomic: options != nil && options.flags&C.MOOR_PUT_ATOMIC != 0,
	}
}

//export moorgo_job_cancel
func moorgo_job_cancel(id C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Get(uint64(id))
	if !ok {
		return badHandle("job")
	}
	j.Cancel()
	return C.MOOR_OK
}

//export moorgo_job_wait
func moorgo_job_wait(id, timeout C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Get(uint64(id))
	if !ok {
		return badHandle("job")
	}
	select {
	case <-j.Done():
		return C.MOOR_OK
	default:
	}
	if timeout > 0 {
		timer := time.NewTimer(time.Duration(min(uint64(timeout), math.MaxInt64)))
		defer timer.Stop()
		select {
		case <-j.Done():
			return C.MOOR_OK
		case <-timer.C:
		}
	}
	return failed(fmt.Errorf("wait for job: %w: some of its %d keys are not finished", core.ErrTimeout, j.Len()))
}

//export moorgo_job_get_status
func moorgo_job_get_status(id, index C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Get(uint64(id))
	if !ok {
		return badHandle("job")
	}
	if index >= C.uint64_t(j.Len()) {
		return noSuchKeys(j, index, 1)
	}
	r, finished := j.Result(int(index))
	if !finished {
		return C.MOOR_IN_PROGRESS
	}
	return status(r.Err)
}

func noSuchKeys(j *job, first, count C.uint64_t) C.int32_t {
	return failed(fmt.Errorf("%w: %d keys from number %d on; the job has %d", core.ErrInvalid, count, first, j.Len()))
}

// inJob says whether a job has all these keys.
func inJob(j *job, first, count C.uint64_t) bool {
	n := C.uint64_t(j.Len())
	return first <= n && count <= n-first
}

//export moorgo_job_get_results
func moorgo_job_get_results(id, first, count C.uint64_t, out *C.moor_completion) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Get(uint64(id))
	if !ok {
		return badHandle("job")
	}
	if !inJob(j, first, count) {
		return noSuchKeys(j, first, count)
	}
	for i := range int(count) {
		r, finished := j.Result(int(first) + i)
		to := nth(out, i)
		giveCompletion(j.Job, int(first)+i, false, &r, to)
		if !finished {
			to.status = C.MOOR_IN_PROGRESS
		}
	}
	return C.MOOR_OK
}

//export moorgo_job_take
func moorgo_job_take(id, first, count C.uint64_t, holdsOut *C.moor_hold, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Get(uint64(id))
	if !ok {
		return badHandle("job")
	}
	if !inJob(j, first, count) {
		return noSuchKeys(j, first, count)
	}
	for i := range int(count) {
		*nth(statusesOut, i) = take(j, int(first)+i, nth(holdsOut, i))
	}
	return C.MOOR_OK
}

func take(j *job, i int, holdOut *C.moor_hold) C.int32_t {
	if _, finished := j.Result(i); !finished {
		return C.MOOR_IN_PROGRESS
	}
	v, err := j.View(i)
	if err != nil {
		return failed(err)
	}
	v.Raw(j.s.hold(holdOut))
	return C.MOOR_OK
}

//export moorgo_job_close
func moorgo_job_close(id C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	j, ok := jobs.Remove(uint64(id))
	if !ok {
		return badHandle("job")
	}
	j.Close()
	return C.MOOR_OK
}
