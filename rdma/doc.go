// Package rdma reads another process's memory over a network card: one-sided reads on reliable connections, and nothing else.
//
// A Library is libibverbs, looked up at run time. A Domain is an opened device with everything that is made on it. A Region is
// memory registered with a Domain. A Conn leads to one Domain of a peer; over it go batches of reads, each of which copies a
// range of a peer's Region into a Region of ours, or to several places in some. A Link keeps a Conn to a peer and makes a new one after an error.
//
// # Pull only
//
// Data is read by who wants it. No region and no queue pair ever grants writing to a peer, and no work request but a read can
// be made. What a peer may read is every byte of a region that was registered with RemoteRead, for as long as the region and a
// connection exist.
//
// # Lifetime
//
// Registered memory must stay mapped, and must not be given back to the kernel (madvise, hole punching), until Region.Close has
// returned nil: the card goes on using the pages it was told. Memory on the Go heap must not be registered. The target of a read
// belongs to the card from Submit until the Batch is done; a Batch is done only when the card cannot touch the memory any more,
// that is when the read has completed, was flushed, or the queue pair has been destroyed. Conn.Gone tells the same for what
// the peer may read. When destroying fails, the memory is in quarantine: the errors say ErrQuarantined, and Gone stays silent.
// Domain.GiveUp ends everything at once, for whom deregistering fails.
//
// Registered private memory and fork: since Linux 5.12 a child gets copies of pages that a card uses. Shared memory, as of a
// store, was never concerned. ibv_fork_init is not called: it would take the registered pages away from children.
//
// # Concurrency
//
// All types are safe for concurrent use. Nothing waits without a deadline. A forked child must not use what its parent opened.
package rdma
