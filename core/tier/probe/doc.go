// Package probe finds out what a directory offers to block I/O: whether O_DIRECT works there, tried with a real block, how it
// must be aligned, which file system it is, whether what is written there stays in memory, and which disk is under it.
//
// Nothing is guessed from one sign alone: tmpfs opens files with O_DIRECT too. What could not be found out is left empty.
// Everything is safe for concurrent use.
package probe
