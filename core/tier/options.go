package tier

import (
	"math/bits"
	"time"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
)

// Durability says when an object is durable: when it outlives a loss of power. The end of the process alone it always
// outlives, except for the last moments in Batch.
type Durability uint8

const (
	// Batch makes objects durable together, every BatchEvery. Commit does not wait for it.
	Batch Durability = iota
	// None leaves it to the kernel, and to Sync.
	None
	// Each makes every object durable before Commit returns. Those that commit together share the syncs.
	Each
)

func (d Durability) String() string { return [...]string{"batch", "none", "each"}[d%3] }

// Verify says which reads compare the bytes with their checksums.
type Verify uint8

const (
	// Always is every read.
	Always Verify = iota
	// Sampled is one read in SampleEvery.
	Sampled
	// Off is none but those of objects that were not durable when the process or the power went.
	Off
)

func (v Verify) String() string { return [...]string{"always", "sampled", "off"}[v%3] }

// SampleEvery is how many reads Sampled verifies one of.
const SampleEvery = 16

// Options of a disk.
type Options struct {
	Dir string   // is made when it is not there
	FS  file.Dir // in place of Dir, for tests; Close closes it

	Capacity     uint64 // bytes of objects, in blocks of 4 KiB; needed
	SegmentBytes uint64 // of a new segment; 0: by the capacity, from 64 MiB to 16 GiB
	FullEvicts   bool   // whether a full disk drops objects to make room
	Durability   Durability
	BatchEvery   time.Duration // 100 ms
	Verify       Verify
	Buffered     bool // read and write through the page cache
	Mapped       bool // read through mappings of the files, to compare: each byte is copied, and the pages are faulted in
	Engine       blockio.Options

	SnapshotBytes int64             // length of the journal from which a snapshot replaces it; 64 MiB
	Log           func(once string) // is told of what is not as it should be, once for each kind
}

const (
	minSegment = 1 << 20
	maxSegment = 1 << 40

	maxSegments = 1 << 20
)

func (o Options) filled() (Options, error) {
	const op = "open"
	invalid := func(format string, args ...any) (Options, error) { return o, failf(op, ErrInvalid, format, args...) }
	switch {
	case o.FS == nil && o.Dir == "":
		return invalid("no directory is given")
	case o.Capacity < blocks.Size:
		return invalid("disk_capacity is %d bytes: at least %d", o.Capacity, blocks.Size)
	case o.Capacity > 1<<60:
		return invalid("disk_capacity is %d bytes: at most %d", o.Capacity, uint64(1)<<60)
	case o.Durability > Each:
		return invalid("durability is %d", o.Durability)
	case o.Verify > Off:
		return invalid("verify is %d", o.Verify)
	case o.BatchEvery < 0 || o.SnapshotBytes < 0:
		return invalid("a negative time or length")
	case o.Engine.Align > blocks.Size:
		return invalid("alignment of %d bytes: at most %d", o.Engine.Align, blocks.Size)
	case o.SegmentBytes != 0 && o.Capacity/o.SegmentBytes >= maxSegments:
		return invalid("segments of %d bytes for disk_capacity %d: at most %d segments", o.SegmentBytes, o.Capacity, maxSegments)
	case o.SegmentBytes != 0 && (o.SegmentBytes < minSegment || o.SegmentBytes > maxSegment || o.SegmentBytes%blocks.Size != 0):
		return invalid("segments of %d bytes: from %d to %d, in steps of %d", o.SegmentBytes, minSegment, uint64(maxSegment), blocks.Size)
	}
	o.Capacity -= o.Capacity % blocks.Size
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(max(uint64(1)<<bits.Len64(o.Capacity/64), 64<<20), 16<<30)
	}
	if o.BatchEvery == 0 {
		o.BatchEvery = 100 * time.Millisecond
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Engine.Log == nil {
		o.Engine.Log = o.Log
	}
	return o, nil
}
