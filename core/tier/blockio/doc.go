// Package blockio moves whole blocks between memory and files, past the page cache where the file system lets it, many
// chunks at a time, and says when the device had them.
//
// # Paths
//
// An Engine takes the best path that there is, in this order, and says in each result which it was:
//
//   - UringFixed: io_uring, O_DIRECT, the memory registered. No copy; the pages are neither looked up nor pinned per chunk.
//   - Uring: the same with memory that is not registered.
//   - Direct: pread and pwrite with O_DIRECT on a few threads, where there is no io_uring.
//   - Buffered: pread and pwrite through the page cache, where there is no O_DIRECT. One copy.
//   - Layer: ReadAt and WriteAt of a File without a descriptor.
//
// Each step down is counted and logged once.
//
// # Who owns a buffer when
//
// Memory and segments of a request belong to the engine from the call of Do or Go until Do returns or done is called,
// whatever happens meanwhile: both come after the last completion of the last chunk, also when the context was cancelled,
// a chunk failed, or the engine is being closed.
//
// # Lifetime and concurrency
//
// An Engine is safe for concurrent use. A Request is not written to, and may be used again after its end; nothing is allocated per
// operation on the paths of io_uring. Close waits for what is in flight.
package blockio
