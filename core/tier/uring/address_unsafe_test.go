package uring

import "unsafe"

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// sizes are those of linux/io_uring.h.
var sizes = map[string][2]uintptr{
	"io_uring_sqe":           {unsafe.Sizeof(entry{}), 64},
	"io_uring_cqe":           {unsafe.Sizeof(Completion{}), 16},
	"io_uring_params":        {unsafe.Sizeof(params{}), 120},
	"io_uring_getevents_arg": {unsafe.Sizeof(waiting{}), 24},
	"io_uring_rsrc_register": {unsafe.Sizeof(table{}), 32},
	"io_uring_rsrc_update2":  {unsafe.Sizeof(update{}), 32},
	"io_uring_clone_buffers": {unsafe.Sizeof(clone{}), 32},
}
