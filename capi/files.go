package main

// #include "exports.h"
import "C"

import "moorage/core"

func fileOptions(o C.moor_cfile_options) core.FileOptions {
	if o == nil {
		return core.FileOptions{}
	}
	f := core.FileOptions{IfExists: core.IfExists(o.if_exists)}
	// The context may be any number in the dress of a pointer, which Go must not take for one.
	if call, context := o.progress, C.uint64_t(uintptr(o.context)); call != nil {
		f.Progress = func(done, total uint64) bool {
			return C.moor_progress_call(call, context, C.uint64_t(done), C.uint64_t(total)) == 0
		}
	}
	return f
}

//export moorgo_import_safetensors
func moorgo_import_safetensors(id C.uint64_t, path C.moor_cstring, prefix C.moor_cbytes, prefixSize C.uint64_t,
	options C.moor_cfile_options, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	n, err := s.Import(C.GoString(path), bytesOf(prefix, prefixSize), fileOptions(options))
	if err != nil {
		return failed(err)
	}
	if countOut != nil {
		*countOut = C.uint64_t(n)
	}
	return C.MOOR_OK
}

//export moorgo_export_safetensors
func moorgo_export_safetensors(id C.uint64_t, path C.moor_cstring, packed C.moor_ckeys, prefixSize C.uint64_t,
	options C.moor_cfile_options) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	names := make([][]byte, k.len())
	for i := range names {
		names[i] = k.at(i)
	}
	return status(s.Export(C.GoString(path), names, int(prefixSize), fileOptions(options)))
}
