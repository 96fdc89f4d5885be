// Package model is an explicit-state model of how the arena shares an extent between readers,
// producers, forked children, the drain and close. The code beside it follows these steps; where
// the code is to change, the model changes first.
//
// # How to read it
//
// State is everything that several threads can see, plus what each thread has in its registers.
// A step is one atomic instruction or one critical section; steps_*.go hold them operation by
// operation, in the order in which they happen, and drain.go holds the two drains. Each thread has
// a menu of operations and a budget: it may start any of them at any time, in any order. Releasing
// a view costs nothing, so that every run that goes as far as it can ends with all views released
// and all children gone; what has to happen "in the end" is checked there. [Check] visits every
// state that can be reached, breadth first, so the first violation comes with a shortest trace.
//
// Fields marked ghost exist for the checks only; no step decides by them.
//
// # What is checked
//
//   - I1 no extent is free or reused while a view of it lives, in the parent or in a child
//   - I2 a dead cell is pushed once and taken back once, and none is lost
//   - I3 no cell is touched by one who has no count on it
//   - I4 take is granted only when nobody else reads, in the parent or in a child
//   - I5 a closed store is unmapped once, never under a view or a call, and always in the end
//   - I6 no extent stays held for a child without cause, and none for ever
//   - I7 a key that is only replaced is never missing
//   - I8 a pinned name is not evicted, and the flag is what the last pin or unpin made it
//   - I9 a snapshot never mixes two generations of an atomic multi-put
//   - P2 published bytes cannot be written by their producer; nothing is handed out or handed back
//     write-protected
//
// [Scenarios] must hold. [Variants] are other orders that hold as well: the code may use them, and no
// test can tell them apart. [Mutations] take one protection out each, and the named rule must break.
//
//	go run ./core/arena/model/cmd/pinmodel            all of it
//	go run ./core/arena/model/cmd/pinmodel -list      names
//	go run ./core/arena/model/cmd/pinmodel -only NAME -trace
//
// # Rules the code takes from here
//
//   - get: load E, count + 1, and if the count was the index's alone: load the pair. If first is E's
//     value already, done. Else look at kids; if there are any, scan the child slots; unless one holds
//     the pair, CAS first to the E loaded at the start, also after a CAS that failed.
//   - kids counts the published child slots. It rises before fork and falls after the slot is cleared.
//     It is looked at where the scan would be: never before the increment of a get or the test of a take.
//   - remove is one addition of DEAD - 1.
//   - the call gate is striped. A call counts itself in one stripe, then looks at closed. Close sets
//     closed, then waits until it has seen each stripe at zero once, one after the other.
//   - an eviction pin is a flag in the record of the name, written and read under the shard's write
//     lock; whoever replaces the record copies it in the same critical section.
//   - commit has a count of its own while it works, taken only if the count is not zero and nobody else
//     commits this reservation, under a lock that the drain takes before it gives an open cell back.
//     That count becomes the index's. A commit that is refused unprotects the pages before it lets
//     its count go.
//   - an open store has no wake: an allocation that finds it full drains, inside its call. After the
//     end of a child the watcher drains and looks at the held cells. One mutex keeps the two apart,
//     and each waits for it.
//   - an atomic multi-put publishes under the sets lock, one shard after the other; a snapshot holds that
//     lock for reading and gets each cell like any other view. A scan of all names holds it only when it
//     begins and when it ends: multi-puts note in its log what they publish meanwhile, and in the end it
//     looks that up again.
//   - whoever holds a view may make another one of it by counting once more; the pair stays as it is.
//
// # What it leaves out
//
// Interleavings are sequentially consistent: memory orders are argued in the code. Mapping calls, pipe
// and token of a fork are single steps. One store. Left out: keys as bytes, the wrap of E, the word
// that tells a child that it is one, running out of child slots, the list of regions, growth of the
// index, multi-puts that are refused half way, and a snapshot's own record. The held list
// is a mark on its cells: two drains at it are told by the mark changing under a walk.
// Views that a child releases change nothing here: a child keeps what it inherited until it ends.
//
// Everything in this package is for one goroutine at a time, except that several calls of [Check]
// may run beside each other.
package model
