// Package evict decides which object of a full store leaves first.
//
// [S3FIFO] is the algorithm of Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues
// are all you need for cache eviction" (SOSP 2023): new objects enter a small
// queue that owns a tenth of the bytes; those read at least twice by the time
// they reach its front move on to the main queue, the others leave and are
// remembered by a fingerprint, so that they go straight to the main queue when
// they come back. The main queue passes over an object once for every read
// that its counter (0 to 3) has seen. [None] is the policy that evicts nothing.
//
// # Who does what
//
// A policy is a state machine over names of objects: it calls no index, takes
// no lock, starts no goroutine. The caller reports what was added and removed,
// asks for the next candidate, tries to evict it under its own locks, and
// reports how that went. Readers never come here: they bump a counter in their
// object's cell, which the policy reads through [Counters].
//
// # Where it departs from the paper
//
//   - Sizes are bytes, not objects. An object larger than the small queue's
//     whole share goes straight to the main queue: in the small one it would
//     push out everything else and then itself. A run of such objects is
//     therefore judged as by the CLOCK algorithm, which is also what remains
//     when all objects are that large.
//   - A removed object keeps its place, and its share of its queue, until the
//     queue meets it there or a sweep does; removal stays O(1). The sweep runs a
//     few steps with each removal once a seventh as many objects are gone as live.
//   - Next passes over at most 1024 objects in a call and then takes the next
//     one as it is: where that many in a row are hot the choice matters little,
//     and a call must not walk a queue of millions.
//   - The ghost remembers nine tenths as many objects as are tracked (at least
//     16). That is what the main queue holds when objects are of one size; the
//     main queue's own count would be zero until something has reached it.
//
// # Memory
//
// 24 bytes for each queued object and about 10 for its ghost; at most 40 for
// each live object, entries not yet swept included, and 100 KiB on top. The only
// pointers are one for every 512 queued objects, so collections skip the rest.
//
// # Concurrency
//
// Nothing in this package is safe for concurrent use: the store guards a policy
// with a mutex. The one thing that runs beside it are the readers' counters,
// which [Counters] must read and write atomically.
package evict
