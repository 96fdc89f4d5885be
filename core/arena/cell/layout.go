package cell

import (
	"sync/atomic"
)

// Kind says what the block of record memory behind a Cell is used for. It is written under the lock of the heap
// stripe that owns the block, and read without it only by the fault line, which prints the name of an object
// while the process dies.
type Kind uint8

const (
	KindFree   Kind = iota // on a free list of the record heap
	KindRecord             // a cell; its body is named by Cell.Body
	KindBody               // only a body: the name of an object whose cell was handed out before it had a name
)

// Flags of a cell, written only by whoever owns the cell alone (reserve, commit before it publishes, the drain).
const (
	FlagProtected uint8 = 1 << iota // the writer's pages of the extent are PROT_READ
	FlagAdopted                     // the extent was filled by a producer, not by a copy
)

// Word bits.
const (
	Dead  uint64 = 1 << 63 // no name refers to the cell, none ever will again
	Open  uint64 = 1 << 62 // reserved, not committed yet; only together with Dead
	Count uint64 = 1<<62 - 1
)

// Size of a Cell and of the header of a body, and the unit in which record memory is addressed, in bytes.
const (
	Size     = 64
	BodySize = 16
	Unit     = 32
)

// Cell is the pin cell of one object: 64 bytes of private memory outside the Go heap, worked on by Go and by the
// release callback in C with atomics. capi/layout.h declares the same bytes and the compiler of each side checks
// sizes and offsets. The hot words come first, so that they share a cache line wherever a 32-byte unit starts.
//
// Who may touch what is in the package comment.
type Cell struct {
	word   atomic.Uint64 // {Dead, Open, count}
	pair   atomic.Uint64 // {first epoch, last epoch}
	Off    uint64        // where the bytes start in the region
	Bytes  uint64        // length of the object in bytes
	Seq    uint64        // sequence number of the commit, 0 until then
	next   atomic.Uint32 // link of the return list: unit of the next dead cell, 0 ends it
	Body   uint32        // unit of the body, 0 while the cell has none
	Block  uint32        // the extent in the allocator
	freq   atomic.Uint32 // access counter of the eviction policy, 0 to 3
	Units  uint16        // length of this block of record memory in units
	Kind   Kind
	Flags  uint8
	Before uint32 // units of the block in front in its chunk; the record heap alone writes it
}

// Body is the header of what stands behind a cell or in a block of its own: after it follow the shape (NDim times
// int64), the key and the user metadata. It never changes after commit, but for Pinned, which belongs to the name
// and is read and written under the lock of the key's shard.
type Body struct {
	KeyLen  uint16
	MetaLen uint16
	NDim    uint8
	DCode   uint8 // DLPack type code; 0/0/0 = plain bytes without a dtype
	DBits   uint8
	Pinned  uint8
	DLanes  uint16
	Tensor  uint8 // 1 when dtype and shape are set
	_       [5]byte
}
