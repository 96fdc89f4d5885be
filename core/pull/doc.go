// Package pull moves bytes between processes over a network card, from memory to memory; names of objects are not its business.
//
// The one who has bytes makes an Offer of them and tells the peer, over a connection of their own, what Next gives: regions that
// the peer may read. The one who wants them makes a Sink of where they shall go and reads each window into it. Nothing is ever
// written into a peer's memory. An Endpoint makes both; it belongs to one store and one card.
//
// # Ways
//
// Each slice of memory takes its own way, which follows from what it is, and from an Endpoint's cost.Model if nobody registered it.
// In Way the ways of an offer are W0 to W3, those of a sink R1 to R4. Memory of the store (W0, R2) and registered memory (W1, R1)
// are read and written by the card itself: no byte is copied, nothing registered, no system call made. The rest is copied
// through bounce buffers (W2, R4), which are registered once, or registered for this one transfer (W3, R3).
//
// # Who owns the memory meanwhile
//
// All memory must stay as it is until Close of the Offer or Sink has returned, and what is of the store must be viewed, or
// reserved, by the caller. Close of an Offer is for when the peer has said that it is through, or when Gone of its connection
// says that it cannot read any more. A Sink that was given up while the card may still write keeps its memory registered until
// the card is through, and says so with rdma.ErrQuarantined: then the memory must stay until Sink.Free.
//
// An Endpoint is safe for concurrent use, an Offer or Sink is not. Everything that waits takes a context.
package pull
