package main

// #include "exports.h"
import "C"

import (
	"math"
	"time"
	"unsafe"

	"moorage/core"
)

//export moorgo_snapshot
func moorgo_snapshot(id C.uint64_t, packed C.moor_ckeys, prefix C.moor_cbytes, prefixSize C.uint64_t,
	out *C.moor_gathered) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	var views []core.View
	var err error
	if packed != nil {
		views, err = s.Snapshot(keysOf(packed).all())
	} else {
		views, err = s.SnapshotPrefix(bytesOf(prefix, prefixSize))
	}
	if err != nil {
		return failed(err)
	}
	return gather(s, views, out)
}

// gather hands views over to C.
func gather(s *store, views []core.View, out *C.moor_gathered) C.int32_t {
	bytes := 0
	for i := range views {
		bytes += len(views[i].Key())
	}
	if st := C.moor_gather_room(out, C.uint64_t(len(views)), C.uint64_t(bytes)); st != C.MOOR_OK {
		for i := range views {
			views[i].Release()
		}
		return st
	}
	holds, ends := unsafe.Slice(out.holds, len(views)), unsafe.Slice(out.ends, len(views))
	room := unsafe.Slice((*byte)(unsafe.Pointer(out.keys)), bytes)
	used := 0
	for i, v := range views {
		used += copy(room[used:], v.Key())
		ends[i] = C.uint64_t(used)
		v.Raw(s.hold(&holds[i]))
	}
	return C.MOOR_OK
}

//export moorgo_wait
func moorgo_wait(id C.uint64_t, packed C.moor_ckeys, timeout C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return status(s.Wait(keysOf(packed).all(), time.Duration(min(uint64(timeout), math.MaxInt64))))
}
