// Package tier keeps objects on disk: in a directory of its own, found again by the next process that opens it. It knows nothing of
// a store.
//
// # An object's life
//
// [Disk.Reserve] takes blocks for a [Draft]; Write moves the bytes there from memory; Commit appends the record that makes it an
// object, and gives it its name. [Disk.Lookup] holds it as an [Entry]; [Disk.Read] moves bytes of it to memory; Release ends the
// hold. Remove, a newer object under the name, and eviction take the name away at once; the blocks follow when the last hold
// has ended and the removal is as durable as the object was.
//
// Objects do not change. Each has a sequence number that its owner gives it; of two under one name the one with the larger number
// stays, in whatever order they come.
//
// # Files
//
//	lock               held by the one owner
//	segment-00000000   blocks of 4 KiB, allocated when the file is made
//	journal-00000007   what was committed and removed, in order
//	snapshot-00000007  all that was there when that journal began
//	making             a journal or snapshot that has no name yet
//
// Files of other names are left alone. What a record looks like stands in package journal, its bodies in body.go.
//
// # What is promised
//
// With [Each], an object is durable when Commit returns. With [Batch], when the next batch is, or a Sync. With [None], when a
// Sync returns; the end of the process alone it outlives from Commit on. A removal is as good as a commit after Settle. What was not
// promised may be found or not; but what is found are the bytes that were written, for every read compares them with
// checksums, and those of objects that had not been durable at a bad end even if it is told not to.
//
// # Concurrency
//
// A Disk and its Entries are safe for concurrent use. A Draft belongs to one caller. Lookup, Has, Remove, SetResident and Release
// change the index and nothing else: they wait for no I/O, and may be called under locks of the caller's. Reserve may wait for a
// sync or make a segment; Write, Read, Commit, Settle, Sync wait for the disk. One goroutine, the keeper, writes what nobody waits
// for.
package tier
