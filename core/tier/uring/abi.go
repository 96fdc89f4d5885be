package uring

// The structures of linux/io_uring.h, and of its constants those that are used.

// entry is struct io_uring_sqe.
type entry struct {
	opcode      uint8
	flags       uint8
	priority    uint16
	fd          int32
	off         uint64
	addr        uint64
	n           uint32
	opFlags     uint32
	data        uint64
	buffer      uint16
	personality uint16
	spliceFD    int32
	pad         [2]uint64
}

// Completion is the end of one request: struct io_uring_cqe.
type Completion struct {
	Data   uint64 // what the request was given
	Result int32  // bytes moved, or a negative errno
	flags  uint32
}

type submissionOffsets struct {
	head, tail, mask, entries, flags, dropped, array, pad uint32
	userAddr                                              uint64
}

type completionOffsets struct {
	head, tail, mask, entries, overflow, cqes, flags, pad uint32
	userAddr                                              uint64
}

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, fd uint32
	pad                                                              [3]uint32
	sq                                                               submissionOffsets
	cq                                                               completionOffsets
}

// waiting is struct io_uring_getevents_arg.
type waiting struct {
	sigmask     uint64
	sigmaskSize uint32
	pad         uint32
	timeout     uint64 // address of a struct __kernel_timespec
}

type timespec struct{ sec, nsec int64 }

// table is struct io_uring_rsrc_register.
type table struct {
	n, flags         uint32
	pad              uint64
	resources, names uint64
}

// update is struct io_uring_rsrc_update2.
type update struct {
	at, pad          uint32
	resources, names uint64
	n, pad2          uint32
}

type iovec struct{ addr, n uint64 }

// clone is struct io_uring_clone_buffers.
type clone struct {
	from, flags, fromAt, at, n uint32
	pad                        [3]uint32
}

const (
	opNop        = 0
	opReadFixed  = 4
	opWriteFixed = 5
	opPollAdd    = 6
	opCancel     = 14
	opRead       = 22
	opWrite      = 23

	fixedFile = 1 << 0 // IOSQE_FIXED_FILE

	setupCQSize      = 1 << 3
	setupSubmitAll   = 1 << 7
	setupCoopTaskrun = 1 << 8

	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	featExtArg     = 1 << 8

	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	mapRings   = 0
	mapEntries = 0x10000000

	registerDropBuffers   = 1
	registerDropFiles     = 3
	registerFiles         = 13
	registerFilesUpdate   = 14
	registerBuffers       = 15
	registerBuffersUpdate = 16
	registerCloneBuffers  = 30

	tableSparse  = 1 << 0
	cloneReplace = 1 << 1
)
