package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core"
	"moorage/core/tensor"
)

// bytesOf is C's memory as a slice, for the duration of the call. A pointer to nothing can be any number and is dropped:
// a made-up pointer on a stack ends the process.
func bytesOf(p C.moor_cbytes, n C.uint64_t) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), n)
}

// likeOf is dtype and shape of a tensor of C's, whose other fields may be anything. The shape stays C's.
func likeOf(t C.moor_ctensor) tensor.Source {
	src := tensor.Source{DType: dtypeOf(t.dtype)}
	if t.ndim > 0 {
		src.Shape = unsafe.Slice((*int64)(t.shape), t.ndim)
	}
	return src
}

// sourceOf is a tensor of C's as core reads it. Shape and strides stay C's.
func sourceOf(t C.moor_ctensor) tensor.Source {
	src := likeOf(t)
	src.Base = uintptr(t.data) + uintptr(t.byte_offset)
	if t.ndim > 0 && t.strides != nil {
		src.Strides = unsafe.Slice((*int64)(t.strides), t.ndim)
	}
	return src
}

func dtypeOf(d C.DLDataType) tensor.DType {
	return tensor.DType{Code: uint8(d.code), Bits: uint8(d.bits), Lanes: uint16(d.lanes)}
}

func putOptions(o C.moor_cput_options) core.PutOptions {
	if o == nil {
		return core.PutOptions{}
	}
	return core.PutOptions{
		IfExists: core.IfExists(o.if_exists), Meta: bytesOf(C.moor_cbytes(o.meta), o.meta_size),
		AsBytes: o.flags&C.MOOR_PUT_AS_BYTES != 0, NoProtect: o.flags&C.MOOR_PUT_NO_PROTECT != 0,
	}
}

func giveResult(r core.PutResult, out *C.moor_put_result) {
	if out != nil {
		*out = C.moor_put_result{seq: C.uint64_t(r.Seq), outcome: C.uint32_t(r.Outcome)}
	}
}

func partsOf(parts C.moor_cparts, n C.uint64_t) []core.Part {
	return unsafe.Slice((*core.Part)(unsafe.Pointer(parts)), n)
}

var (
	_ [C.sizeof_moor_part - unsafe.Sizeof(core.Part{})]struct{}
	_ [unsafe.Sizeof(core.Part{}) - C.sizeof_moor_part]struct{}
)

// keys are the keys of a batch.
type keys struct {
	bytes []byte
	ends  []C.uint64_t
}

func keysOf(k C.moor_ckeys) keys {
	if k.count == 0 {
		return keys{}
	}
	ends := unsafe.Slice((*C.uint64_t)(k.ends), k.count)
	return keys{bytesOf(C.moor_cbytes(k.bytes), ends[len(ends)-1]), ends}
}

func (k keys) len() int { return len(k.ends) }

func (k keys) at(i int) []byte {
	from, to := span(k.ends, i)
	return k.bytes[from:to]
}

func (k keys) all() [][]byte {
	all := make([][]byte, k.len())
	for i := range all {
		all[i] = k.at(i)
	}
	return all
}

// span is where the i-th piece of a sequence lies that is given by its ends.
func span(ends []C.uint64_t, i int) (from, to uint64) {
	if i > 0 {
		from = uint64(ends[i-1])
	}
	return from, uint64(ends[i])
}
