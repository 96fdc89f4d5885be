// Package core is the store: immutable objects under keys, in memory that never moves.
//
// An object is bytes, with a dtype and a shape if it is a tensor. Get hands out a View, a counted borrow without a deadline:
// the bytes stay where and as they are until the view is released, through replace, remove, eviction and Close.
// Bytes come in by one copy (Put) or are produced in place (Reserve, WriteBuffer).
//
// # Lifetime
//
// The bytes live in one region (core/arena), the name, the pin cell and the metadata of an object in one record (core/index), and who
// holds them is counted in the cell (core/arena/cell). Whoever lets go last pushes the cell on the store's return list;
// the drain takes it from there and gives extent and record back. Close unlinks all objects; what is viewed
// stays, and the last release has everything unmapped.
//
// # Concurrency
//
// A Store is safe for concurrent use. Names are spread over 64 shards with a lock each; reads take it shared. No lock
// is held while bytes are copied. A View or a WriteBuffer belongs to one goroutine at a time.
//
// # Jobs
//
// Submit has the same operations done for many keys while the caller goes on. A Queue tells of each key that is finished;
// the last one of a Job is the acknowledgement that nothing of it touches the caller's memory any more.
//
// # Addresses
//
// Tensor memory is outside the Go heap and appears as uintptr. A []byte that points into it says until when it is
// valid.
package core
