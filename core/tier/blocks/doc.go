// Package blocks says which blocks of the segments are free.
//
// A block is 4 KiB. Each segment has a bitmap, which is all the state there is: what is taken after a restart is what the
// objects found then say. An object gets one run of blocks where there is one that is long enough, and otherwise several,
// the longer ones first, so that a disk in crumbs can still be filled.
//
// Finding is next fit with a hint: a segment remembers how long its longest free run is at most, so that full ones are passed
// over without a look. Memory: one bit for each block, 32 KiB for each GiB.
//
// A [Map] is safe for concurrent use; no call waits for anything but the others.
package blocks
