// Package arena owns the memory that a store keeps its tensors in.
//
// A [Region] is one sealed memfd, mapped twice: read-write for the store and
// PROT_READ for shared views; a third mapping, the park, keeps page tables. [Extents] hands out pieces of the offsets
// 0 … size of a region; it knows nothing of addresses and keeps its
// bookkeeping beside the region, never in it. [Arena] is the two together,
// which is what a store opens.
//
// # Lifetime
//
// An extent belongs to the caller from [Extents.Alloc] until [Extents.Free].
// The addresses of a region are valid until [Arena.Close] (or [Region.Close])
// returns; nothing here counts borrowers, so whoever closes must know that the
// last reader is gone. Close may be called more than once.
//
// # Concurrency
//
// All methods may be called from any goroutine, except that none may run
// beside or after Close. [Extents] has one mutex, never held across a system
// call that touches or gives back pages: trim and prefault take the pages they
// work on out of the free lists first, and an allocation that fails meanwhile
// waits for them to come back.
//
// # Warm and cold
//
// Touching a page for the first time costs five to ten times as much as
// copying into one that is there. A page counts as warm from the moment it is
// part of an extent or has been prefaulted, and as cold before that and after
// trim. Free memory that is warm throughout is used first. Warm pages may be
// written without asking anybody; the memory limit of the process (control
// group, machine) is asked before cold ones are handed out.
//
// # Fork
//
// The bookkeeping is MADV_DONTFORK: a forked child must not call into this
// package. Opening and closing go through a [Tracker], so that a fork handler
// sees a list of mappings that is complete.
package arena
