package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core"
	"moorage/core/tensor"
)

//export moorgo_put_parts
func moorgo_put_parts(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, parts C.moor_cparts, partCount C.uint64_t,
	options C.moor_cput_options, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return put(s, bytesOf(key, keySize), partsOf(parts, partCount), putOptions(options), resultOut)
}

func put(s *store, key []byte, parts []core.Part, o core.PutOptions, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	r, err := s.PutParts(key, parts, o)
	if err != nil {
		return failed(err)
	}
	giveResult(r, resultOut)
	return C.MOOR_OK
}

//export moorgo_put_tensor
func moorgo_put_tensor(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, tensor C.moor_ctensor,
	options C.moor_cput_options, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return putTensor(s, bytesOf(key, keySize), tensor, putOptions(options), resultOut)
}

func putTensor(s *store, key []byte, tensor C.moor_ctensor, o core.PutOptions, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	r, err := s.PutTensor(key, sourceOf(tensor), o)
	if err != nil {
		return failed(err)
	}
	giveResult(r, resultOut)
	return C.MOOR_OK
}

//export moorgo_put_batch
func moorgo_put_batch(id C.uint64_t, packed C.moor_ckeys, parts C.moor_cparts, partEnds C.moor_cu64,
	options C.moor_cput_options, resultsOut *C.moor_put_result, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k, o := keysOf(packed), putOptions(options)
	if k.len() == 0 {
		return C.MOOR_OK
	}
	ends := unsafe.Slice((*C.uint64_t)(partEnds), k.len())
	all := partsOf(parts, ends[len(ends)-1])
	if options != nil && options.flags&C.MOOR_PUT_ATOMIC != 0 {
		return putSet(s, k, o, resultsOut, statusesOut, func(i int, item *core.Item) {
			from, to := span(ends, i)
			item.Parts = all[from:to]
		})
	}
	statuses := unsafe.Slice(statusesOut, k.len())
	o = o.Queued()
	for i := range statuses {
		from, to := span(ends, i)
		statuses[i] = put(s, k.at(i), all[from:to], o, nth(resultsOut, i))
	}
	return C.MOOR_OK
}

//export moorgo_put_tensors
func moorgo_put_tensors(id C.uint64_t, packed C.moor_ckeys, tensors C.moor_ctensors, options C.moor_cput_options,
	resultsOut *C.moor_put_result, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k, o := keysOf(packed), putOptions(options)
	if k.len() == 0 {
		return C.MOOR_OK
	}
	all := unsafe.Slice((*C.moor_ctensor)(unsafe.Pointer(tensors)), k.len())
	if options != nil && options.flags&C.MOOR_PUT_ATOMIC != 0 {
		sources := make([]tensor.Source, k.len())
		return putSet(s, k, o, resultsOut, statusesOut, func(i int, item *core.Item) {
			sources[i] = sourceOf(all[i])
			item.Tensor = &sources[i]
		})
	}
	statuses := unsafe.Slice(statusesOut, k.len())
	o = o.Queued()
	for i := range statuses {
		statuses[i] = putTensor(s, k.at(i), all[i], o, nth(resultsOut, i))
	}
	return C.MOOR_OK
}

// putSet puts all or nothing.
func putSet(s *store, k keys, o core.PutOptions, resultsOut *C.moor_put_result, statusesOut *C.int32_t,
	what func(i int, item *core.Item)) C.int32_t {
	items, results := make([]core.Item, k.len()), make([]core.PutResult, k.len())
	for i := range items {
		items[i].Key = k.at(i)
		what(i, &items[i])
	}
	if err := s.PutSet(items, o, results); err != nil {
		return failed(err)
	}
	for i, r := range results {
		giveResult(r, nth(resultsOut, i))
		*nth(statusesOut, i) = C.MOOR_OK
	}
	return C.MOOR_OK
}

// nth is the i-th element of an array that may be absent.
func nth[T any](array *T, i int) *T {
	if array == nil {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(array), uintptr(i)*unsafe.Sizeof(*array)))
}
