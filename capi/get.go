package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core"
)

// hold is where C wants a view, to be filled by core.
func (s *store) hold(out *C.moor_hold) *core.Raw {
	out.region = s.region
	return (*core.Raw)(unsafe.Pointer(out))
}

// The two declarations must be the same, else this does not compile: an index other than 0 is out of range.
var (
	_ = same[unsafe.Sizeof(C.moor_hold{})-unsafe.Sizeof(core.Raw{})]
	_ = same[unsafe.Offsetof(C.moor_hold{}.control)-unsafe.Offsetof(core.Raw{}.Control)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.region)-unsafe.Offsetof(core.Raw{}.Region)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.data)-unsafe.Offsetof(core.Raw{}.Data)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.size)-unsafe.Offsetof(core.Raw{}.Size)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.offset)-unsafe.Offsetof(core.Raw{}.Off)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.seq)-unsafe.Offsetof(core.Raw{}.Seq)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.shape)-unsafe.Offsetof(core.Raw{}.Shape)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.meta)-unsafe.Offsetof(core.Raw{}.Meta)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.meta_size)-unsafe.Offsetof(core.Raw{}.MetaSize)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.unit)-unsafe.Offsetof(core.Raw{}.Unit)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.ndim)-unsafe.Offsetof(core.Raw{}.NDim)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.flags)-unsafe.Offsetof(core.Raw{}.Flags)]
	_ = same[unsafe.Offsetof(C.moor_hold{}.dtype)-unsafe.Offsetof(core.Raw{}.Code)]
	_ = same[C.MOOR_HOLD_TENSOR-core.RawTensor]
)

var same = [1]struct{}{}

//export moorgo_get
func moorgo_get(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, holdOut *C.moor_hold) (st C.int32_t) {
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return get(s, bytesOf(key, keySize), holdOut)
}

func get(s *store, key []byte, holdOut *C.moor_hold) (st C.int32_t) {
	defer guard(&st)
	v, err := s.Get(key)
	if err != nil {
		return failed(err)
	}
	v.Raw(s.hold(holdOut))
	return C.MOOR_OK
}

//export moorgo_get_batch
func moorgo_get_batch(id C.uint64_t, packed C.moor_ckeys, holdsOut *C.moor_hold, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	if k.len() == 0 {
		return C.MOOR_OK
	}
	holds, statuses := unsafe.Slice(holdsOut, k.len()), unsafe.Slice(statusesOut, k.len())
	give := func(i int, v core.View, err error) {
		if err != nil {
			statuses[i] = failed(err)
			return
		}
		v.Raw(s.hold(&holds[i]))
		statuses[i] = C.MOOR_OK
	}
	s.GetEach(k.len(), k.at, give)
	return C.MOOR_OK
}

//export moorgo_take
func moorgo_take(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, holdOut *C.moor_hold) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	v, err := s.Take(bytesOf(key, keySize))
	if err != nil {
		return failed(err)
	}
	v.Raw(s.hold(holdOut))
	holdOut.data = C.uint64_t(v.WriterAddr())
	return C.MOOR_OK
}
