package tier

import (
	"sync/atomic"

	"moorage/core/evict"
	"moorage/core/index"
)

// Entry is an object on disk, held: its blocks are not used for anything else before Release, whatever becomes of its name. It
// never changes. Safe for concurrent use.
type Entry struct {
	d    *Disk
	next *Entry // in its bucket; guarded by the shard

	hash, lsn uint64
	body      body

	holds    atomic.Int32 // the index is one
	touches  atomic.Uint32
	hits     atomic.Uint32 // for the policy: 0 to evict.MaxFrequency
	resident atomic.Bool   // changed under the shard's lock
	unproved atomic.Bool   // found after a bad end, and not verified since
	damaged  atomic.Bool

	removal uint64 // number of the record that took it away; written before the index lets go
}

// Key is valid as long as the entry is held, as is Meta.
func (e *Entry) Key() []byte { return e.body.key() }

// Meta is the user's.
func (e *Entry) Meta() []byte { return e.body.meta() }

// Bytes is how long the object is.
func (e *Entry) Bytes() uint64 { return e.body.size() }

// Seq is its sequence number.
func (e *Entry) Seq() uint64 { return e.body.seq() }

// Content is all about it but the bytes; Key and Meta in it are valid as long as the entry is held.
func (e *Entry) Content() index.Content { return e.body.content() }

// Durable says whether it outlives a loss of power.
func (e *Entry) Durable() bool { return e.lsn <= e.d.log.Synced() && !e.unproved.Load() }

// Touch says how often it was looked up since it is there.
func (e *Entry) Touch() uint32 { return e.touches.Load() }

// Release ends the hold; the entry must not be used any more.
func (e *Entry) Release() {
	s := e.d.shard(e.hash)
	e.letGo()
	if s.held.Add(-1) == 0 && e.d.closing.Load() {
		e.d.wake()
	}
}

// letGo takes one hold away; with the last one the blocks are on their way to the next object.
func (e *Entry) letGo() {
	if e.holds.Add(-1) == 0 {
		e.d.space.retire(e)
	}
}

func (e *Entry) hit() {
	e.touches.Add(1)
	if f := e.hits.Load(); f < evict.MaxFrequency {
		e.hits.CompareAndSwap(f, f+1)
	}
}

func (e *Entry) blocks() uint64 { return blocksOf(e.body.size()) }
