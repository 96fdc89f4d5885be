// Package registry knows which memory may be given to a network device: ranges that the caller registered, and the
// memory of the store itself.
//
// # Memory of the caller
//
// Register takes up a range, Release ends it. Ranges may overlap and nest; each counts for itself. A transfer finds its
// memory by address: only bytes that lie in one registration, all of them, are registered. There is no cache by address
// behind it: memory that was unmapped and mapped again under a registration would lose data without an error, so the
// caller says when a range begins and ends. The range must stay mapped, and must not be given back to the system with
// madvise, until Release has returned.
//
// # Memory of the store
//
// It is registered slab by slab (64 MiB; 1 GiB with huge pages), by the first transfer of a device that meets the slab or
// ahead of it by Warm, never per call. Both addresses of an object lead to it, before anything is looked up. Free
// pages are given back to the system only while their slab is not registered: Guard deregisters first, and the next
// transfer registers again. A store that never meets a device has no slabs.
//
// # For one transfer
//
// Lend registers memory for one use with one device, until End: what a transfer registers on the fly, and bounce buffers.
//
// # Lifetime and concurrency
//
// Everything is safe for concurrent use; a look-up takes no lock. A Piece is memory in flight: between Acquire and End it is
// neither deregistered nor unlocked. Whoever acquires memory of the store views the object meanwhile. What waits for
// transfers takes a context, and ends with it.
package registry
