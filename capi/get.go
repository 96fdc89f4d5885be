package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core"
)

// holdOf is a view as C takes it over.
func holdOf(s *store, r core.Raw) C.moor_hold {
	h := C.moor_hold{
		cell: C.uint64_t(r.Cell), control: C.uint64_t(r.Control), region: s.region, data: C.uint64_t(r.Data),
		size: C.uint64_t(r.Size), offset: C.uint64_t(r.Off), seq: C.uint64_t(r.Seq), unit: C.uint32_t(r.Unit),
		shape:     C.uint64_t(uintptr(unsafe.Pointer(unsafe.SliceData(r.Shape)))),
		meta:      C.uint64_t(uintptr(unsafe.Pointer(unsafe.SliceData(r.Meta)))),
		meta_size: C.uint32_t(len(r.Meta)), ndim: C.int32_t(len(r.Shape)),
	}
	if r.Tensor {
		h.flags = C.MOOR_HOLD_TENSOR
		h.dtype = C.DLDataType{code: C.uint8_t(r.Code), bits: C.uint8_t(r.Bits), lanes: C.uint16_t(r.Lanes)}
	}
	return h
}

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
	*holdOut = holdOf(s, v.Raw())
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
	for i := range holds {
		statuses[i] = get(s, k.at(i), &holds[i])
	}
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
	hold := holdOf(s, v.Raw())
	hold.data = C.uint64_t(v.WriterAddr())
	*holdOut = hold
	return C.MOOR_OK
}
