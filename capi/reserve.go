package main

// #include "exports.h"
import "C"

import (
	"sync"
	"unsafe"

	"moorage/capi/internal/handle"
	"moorage/core"
	"moorage/core/tensor"
)

// reservation is what a reservation's handle leads to.
type reservation struct {
	mu sync.Mutex
	w  *core.WriteBuffer
}

var reservations = handle.NewTable[*reservation](2)

//export moorgo_reserve
func moorgo_reserve(id C.uint64_t, size C.uint64_t, reservationOut, dataOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	w, err := s.Reserve(uint64(size))
	if err != nil {
		return failed(err)
	}
	r, err := reservations.Add(&reservation{w: w})
	if err != nil {
		w.Abort()
		return failed(err)
	}
	*reservationOut, *dataOut = C.uint64_t(r), C.uint64_t(w.Addr())
	return C.MOOR_OK
}

//export moorgo_commit
func moorgo_commit(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, like C.moor_ctensor,
	options C.moor_cput_options, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	r, ok := reservations.Get(uint64(id))
	if !ok {
		return badHandle("reservation")
	}
	var src tensor.Source
	if like != nil {
		src = likeOf(like)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res, err := r.w.Commit(bytesOf(key, keySize), src.DType, src.Shape, putOptions(options))
	if err != nil {
		return failed(err)
	}
	if res.Outcome != core.Kept {
		reservations.Remove(uint64(id))
	}
	giveResult(res, resultOut)
	return C.MOOR_OK
}

//export moorgo_abort
func moorgo_abort(id C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	r, ok := reservations.Remove(uint64(id))
	if !ok {
		return badHandle("reservation")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.w.Abort()
	return C.MOOR_OK
}

//export moorgo_empty
func moorgo_empty(id C.uint64_t, like C.moor_ctensor, holdOut *C.moor_hold) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	src := likeOf(like)
	w, err := s.ReserveTensor(src.DType, src.Shape)
	if err != nil {
		return failed(err)
	}
	w.Raw(s.hold(holdOut))
	holdOut.flags = C.MOOR_HOLD_TENSOR
	holdOut.dtype, holdOut.ndim, holdOut.shape = like.dtype, like.ndim, C.uint64_t(uintptr(unsafe.Pointer(like.shape)))
	return C.MOOR_OK
}

//export moorgo_is_published
func moorgo_is_published(address, size C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	if h, err := host(); err == nil && h.Published(uintptr(address), uint64(size)) {
		return 1
	}
	return 0
}

//export moorgo_adopt
func moorgo_adopt(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, like C.moor_ctensor,
	options C.moor_cput_options, resultOut *C.moor_put_result) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	r, err := s.Adopt(bytesOf(key, keySize), sourceOf(like), putOptions(options))
	if err != nil {
		return failed(err)
	}
	giveResult(r, resultOut)
	return C.MOOR_OK
}
