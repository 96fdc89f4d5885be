package main

// #include "exports.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"unsafe"

	"moorage/capi/internal/handle"
	"moorage/core"
	"moorage/core/safetensors"
)

// statuses are the errors of core as C knows them, the more special first.
var statuses = []struct {
	err    error
	status C.int32_t
}{
	{core.ErrNotFound, C.MOOR_ERR_NOT_FOUND},
	{core.ErrClosed, C.MOOR_ERR_BAD_HANDLE},
	{core.ErrExists, C.MOOR_ERR_EXISTS},
	{core.ErrCapacity, C.MOOR_ERR_CAPACITY},
	{core.ErrBusy, C.MOOR_ERR_BUSY},
	{core.ErrTooMany, C.MOOR_ERR_BUSY},
	{core.ErrTooSmall, C.MOOR_ERR_TOO_SMALL},
	{core.ErrReadOnly, C.MOOR_ERR_READ_ONLY},
	{core.ErrAlreadyAdopted, C.MOOR_ERR_ALREADY_ADOPTED},
	{core.ErrCancelled, C.MOOR_ERR_CANCELLED},
	{core.ErrDamaged, C.MOOR_ERR_FORMAT},
	{core.ErrDisk, C.MOOR_ERR_IO},
	{core.ErrTimeout, C.MOOR_ERR_TIMEOUT},
	{core.ErrHugePages, C.MOOR_ERR_HUGE_PAGES},
	{core.ErrUnsupported, C.MOOR_ERR_UNSUPPORTED},
	{core.ErrMemory, C.MOOR_ERR_NO_MEMORY},
	{handle.ErrFull, C.MOOR_ERR_NO_MEMORY},
	{safetensors.ErrFormat, C.MOOR_ERR_FORMAT},
	{safetensors.ErrIO, C.MOOR_ERR_IO},
	{core.ErrInvalid, C.MOOR_ERR_INVALID_ARGUMENT},
	{core.ErrSystem, C.MOOR_ERR_SYSTEM},
}

// failed gives the status of an error, and its text to moor_last_error.
func failed(err error) C.int32_t {
	setText(strings.TrimPrefix(err.Error(), "moorage: "))
	return statusOf(err)
}

// statusOf gives the status of an error, or of none.
func statusOf(err error) C.int32_t {
	if err == nil {
		return C.MOOR_OK
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return C.MOOR_ERR_INTERNAL
}

func setText(text string) {
	C.moor_set_error((*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.uint64_t(len(text)))
}

// status turns the end of an operation into C's answer.
func status(err error) C.int32_t {
	if err == nil {
		return C.MOOR_OK
	}
	return failed(err)
}

func badHandle(what string) C.int32_t {
	setText(what + " is not an open handle of its kind (zero, closed, or another object's)")
	return C.MOOR_ERR_BAD_HANDLE
}

// guard ends every export, and each key of a batch: a panic in it is a bug and becomes a status.
func guard(status *C.int32_t) {
	if p := recover(); p != nil {
		setText(fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
		*status = C.MOOR_ERR_INTERNAL
	}
}
