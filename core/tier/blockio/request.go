package blockio

import "moorage/core/registry"

// Piece is contiguous in memory and in a file. With a direct segment Addr, Off and Len are multiples of Engine.Align.
type Piece struct {
	Addr   uintptr
	File   *Segment
	Off    int64
	Len    int
	Buffer registry.Region // what Engine.Register gave for the memory; nil: it is not registered
}

// Request is one operation: all its pieces are read, or written.
type Request struct {
	Write  bool
	Pieces []Piece
	// Chunk, if there is one, is told of each chunk that is complete: n bytes at off of a piece. It is called by the thread
	// that reaps, in any order, while other chunks are in flight, and must not block. When the operation fails, some
	// chunks are never told.
	Chunk func(piece, off, n int)
	// Flying is how many chunks may be in flight at a time, where that is less than Options.Depth; 0: no fewer.
	Flying int
}

// Times says when an operation did what, in nanoseconds of CLOCK_MONOTONIC. An operation that failed or was cancelled has its
// stamps too; those that it did not reach are 0.
type Times struct {
	First int64 // right before the first chunk was handed to the kernel
	Last  int64 // when the last completion was seen

	Wait   int64 // before First: for a ring, or until the ring's thread came to it
	Submit int64 // before First: making the requests
	Reap   int64 // after Last

	Chunks int // that were moved
	Depth  int // in flight right after the first submission; below Uring the most at a time
	// From handing over to the completion being seen, of the chunks that were moved. Without Request.Chunk completions are
	// looked for in groups, which saves processor time, and a chunk's time lasts until its group was seen.
	ChunkMin, ChunkMax, ChunkSum int64

	Path  Path // the lowest that a piece needed
	Bytes int64
}

// Path is how the bytes were moved; the smaller the better.
type Path uint8

// The paths. See the package's text for what each is.
const (
	UringFixed Path = iota
	Uring
	Direct
	Buffered
	Layer
	Paths // how many there are
)

var pathNames = [Paths]string{"uring fixed", "uring", "direct", "buffered", "layer"}

func (p Path) String() string {
	if p >= Paths {
		return "unknown"
	}
	return pathNames[p]
}
