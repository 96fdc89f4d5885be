// Package index finds objects by key. It holds the record memory of a store and the tables that lead from a key to
// a record, all of it outside the Go heap and without a Go pointer inside, so that ten million objects cost the
// garbage collector nothing.
//
// # Record memory
//
// A Heap hands out blocks of 32-byte units, named by a uint32 unit number (0 names nothing). The block of a record
// is a cell.Cell with the body (shape, key, user metadata) right behind it. Blocks are carved from 2 MiB chunks.
// A chunk is tiled by blocks without gaps: each block, free or not, has its length and its kind at the offsets of
// Cell.Units and Cell.Kind, so that the memory can be walked from the first block of a chunk to its last, also by
// the C code that prints the name of an object while the process dies (see Heap.Directory). Cell.Before of every
// block is the length of the block before it and belongs to the heap; free neighbours are merged with it.
//
// # Tables
//
// A Table holds one shard of the names: slots {tag, unit} in the order of their tags, open addressing, no
// tombstones. The tag is the upper half of Hash; its top bits choose the slot, so the order of a table does not
// change when it grows, and a listing can go on where it stopped.
//
// # Lifetime and concurrency
//
// A Heap is safe for concurrent use: it is cut into stripes, each with its own lock. What is inside a block is the
// business of whoever owns the block. A pointer or slice into a block is valid until the block is freed.
// A Table has no lock. Its owner keeps one reader-writer lock per table: Lookup, Scan, Len and Bytes are reads, all
// else are writes. Close of a Heap or Table unmaps it; nothing of it may be touched afterwards.
//
// Mapped memory is private and left out of forked children (MADV_DONTFORK) and core files. Under the build tag race
// it is made of Go arrays instead, since the race detector does not see mapped memory. Under the build tag
// invariants free blocks are filled with a pattern that is checked when they are handed out again.
package index
