// Package cell is the pin protocol: who holds the bytes of an object, and when they may be used again.
//
// Every object has a Cell of 64 bytes outside the Go heap. Its word counts one for each view and one for the name, as
// long as there is one. The call that brings the count of a dead cell to zero pushes it on the store's return list
// (Control); the store's drain takes the list back, and with each cell its extent, record and key.
// A release may come from C, from any thread, after the store was closed and while the process exits; it is a few
// atomics and takes no lock. capi/release.c has the same steps for callers in C, over the same memory.
//
// # States
//
//	open    {Dead|Open, ≥1}  reserved, its producer writes       → alive by commit, pushed when the producers let go
//	alive   {0, 1+views}     has a name                          → dead by remove or replace, pushed by evict
//	dead    {Dead, views}    name gone, views left               → pushed by the last release
//	pushed  {Dead, 0}        on the list, nobody touches it but the drain
//
// # Forked children
//
// A child reads the views that it inherited for as long as it lives. Which cells those are is known by epochs: the
// fork epoch is raised before the fork (it is odd then; that value is the child's epoch) and after it. The second word of
// a cell is a pair {first, last} of epochs between which it was viewed. A child with epoch e holds every cell with
// first ≤ e ≤ last. The drain frees no extent that a living child holds.
//
// # Rules
//
// Acquire needs the lock of the shard in which the cell was found, for reading or writing. Kill, Evict and Take need
// it for writing at least for the unlinking that goes with them. Release needs nothing but a count. After a decrement
// that is not the last, and after a push, the cell is not touched again.
// The order of the steps matters and is model-checked: see core/arena/model.
package cell
