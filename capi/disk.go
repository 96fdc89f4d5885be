package main

// #include "exports.h"
import "C"

import (
	"sync"
	"unsafe"

	"moorage/core"
	"moorage/core/tier"
	"moorage/core/tier/blockio"
)

func diskOptions(o *C.moor_disk_options) core.DiskOptions {
	if o == nil {
		return core.DiskOptions{}
	}
	return core.DiskOptions{
		Options: tier.Options{
			Dir: C.GoString(o.path), Capacity: uint64(o.capacity),
			Durability: durabilities[o.durability], Verify: verifications[o.verify],
			Buffered: o.read_path == C.MOOR_READ_BUFFERED, Mapped: o.read_path == C.MOOR_READ_MMAP,
			Log: noticeOnce(),
		},
		Promote: promotions[o.promote], WriteThrough: o.write == C.MOOR_WRITE_THROUGH, Trace: C.GoString(o.trace),
	}
}

var (
	durabilities = [...]tier.Durability{
		0: tier.Batch, C.MOOR_DURABLE_NONE: tier.None, C.MOOR_DURABLE_BATCH: tier.Batch, C.MOOR_DURABLE_EACH: tier.Each,
	}
	verifications = [...]tier.Verify{
		C.MOOR_VERIFY_ALWAYS: tier.Always, C.MOOR_VERIFY_SAMPLED: tier.Sampled, C.MOOR_VERIFY_OFF: tier.Off,
	}
	promotions = [...]core.Promote{
		C.MOOR_PROMOTE_ALWAYS: core.PromoteAlways, C.MOOR_PROMOTE_SECOND_HIT: core.PromoteSecondHit,
		C.MOOR_PROMOTE_NEVER: core.PromoteNever,
	}
)

// noticeOnce tells the program's log of the first thing that is not as it should be; all are counted.
func noticeOnce() func(string) {
	var once sync.Once
	return func(string) { once.Do(func() { C.moor_notice(C.MOOR_NOTICE_DISK) }) }
}

//export moorgo_persist
func moorgo_persist(id C.uint64_t, packed C.moor_ckeys, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	errs, err := s.PersistEach(k.len(), k.at)
	if err != nil {
		return failed(err)
	}
	statuses := unsafe.Slice(statusesOut, k.len())
	for i, err := range errs {
		statuses[i] = status(err)
	}
	return C.MOOR_OK
}

//export moorgo_flush
func moorgo_flush(id C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return status(s.Flush())
}

//export moorgo_read_into
func moorgo_read_into(id C.uint64_t, key C.moor_cbytes, keySize, offset, nbytes, data, room C.uint64_t, copiedOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	n, done, err := s.ReadInto(bytesOf(key, keySize), uint64(offset), uint64(nbytes), uintptr(data), uint64(room))
	switch {
	case err != nil:
		return failed(err)
	case !done:
		return C.MOOR_ELSEWHERE
	}
	*copiedOut = C.uint64_t(n)
	return C.MOOR_OK
}

//export moorgo_get_disk_stats
func moorgo_get_disk_stats(id C.uint64_t, out *C.moor_disk_stats) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	v, err := s.DiskStats()
	if err != nil {
		return failed(err)
	}
	*out = C.moor_disk_stats{
		memory_backed: flagOf(v.MemoryBacked),
		capacity:      C.uint64_t(v.Capacity), used: C.uint64_t(v.Used), objects: C.uint64_t(v.Objects),
		resident_objects: C.uint64_t(v.Resident), recovered_objects: C.uint64_t(v.Recovered),
		lost_objects: C.uint64_t(v.Lost), reads: C.uint64_t(v.Reads), bytes_read: C.uint64_t(v.ReadBytes),
		shared_reads: C.uint64_t(v.SharedReads), writes: C.uint64_t(v.Writes), bytes_written: C.uint64_t(v.WriteBytes),
		promotions: C.uint64_t(v.Promotions), demotions: C.uint64_t(v.Demotions), evictions: C.uint64_t(v.Evicted),
		damaged: C.uint64_t(v.Damaged), bytes_bounced: C.uint64_t(v.Bounced),
		by_uring_fixed: C.uint64_t(v.Engine.Paths[blockio.UringFixed].Operations),
		by_uring:       C.uint64_t(v.Engine.Paths[blockio.Uring].Operations),
		by_direct:      C.uint64_t(v.Engine.Paths[blockio.Direct].Operations),
		by_buffered:    C.uint64_t(v.Engine.Paths[blockio.Buffered].Operations),
		fallbacks:      C.uint64_t(v.Engine.Fallbacks),
	}
	return C.MOOR_OK
}

//export moorgo_inspect_directory
func moorgo_inspect_directory(path C.moor_cstring, out *C.moor_directory_info) (st C.int32_t) {
	defer guard(&st)
	v, err := core.InspectDirectory(C.GoString(path))
	if err != nil {
		return failed(err)
	}
	*out = C.moor_directory_info{
		direct: flagOf(v.Direct), memory_backed: flagOf(v.Memory != ""), rotational: flagOf(v.Device.Rotational),
		memory_align: C.uint32_t(v.MemoryAlign), offset_align: C.uint32_t(v.OffsetAlign),
		size: C.uint64_t(v.Size), free: C.uint64_t(v.Free),
	}
	giveText(out.file_system[:], v.FileSystem)
	giveText(out.device[:], v.Device.Name)
	giveText(out.model[:], v.Device.Model)
	giveText(out.memory[:], v.Memory)
	if v.NotDirect != nil {
		giveText(out.not_direct[:], v.NotDirect.Error())
	}
	return C.MOOR_OK
}

func flagOf(on bool) C.uint32_t {
	if on {
		return 1
	}
	return 0
}
