package main

// #include "exports.h"
import "C"

//export moorgo_import_safetensors
func moorgo_import_safetensors(id C.uint64_t, path C.moor_cstring, prefix C.moor_cbytes, prefixSize C.uint64_t,
	options C.moor_cfile_options, countOut *C.uint64_t) (st C.int32_t) {
	setText("not built yet")
	return C.MOOR_ERR_UNSUPPORTED
}

//export moorgo_export_safetensors
func moorgo_export_safetensors(id C.uint64_t, path C.moor_cstring, packed C.moor_ckeys, prefixSize C.uint64_t,
	options C.moor_cfile_options) (st C.int32_t) {
	setText("not built yet")
	return C.MOOR_ERR_UNSUPPORTED
}
