package tier

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"
)

// shards is how many tables the names are spread over, by the top bits of their hash.
const (
	shardBits = 8
	shards    = 1 << shardBits
)

// shard is the names whose hash begins in one way. Its lock is a leaf but for the journal's: nobody does I/O under it.
type shard struct {
	mu     sync.RWMutex
	table  table
	drafts []*Draft // under way

	resident, bytes uint64

	held atomic.Int64 // entries and drafts that somebody has
	_    [32]byte
}

// table finds entries by hash and key. Buckets are chains in the order of the hashes, and stand in that order themselves: a
// listing is a walk through the hashes, whatever grows meanwhile.
type table struct {
	buckets []*Entry
	len     int
}

// at is the bucket of a hash: the bits behind the shard's.
func (t *table) at(hash uint64) int {
	return int(hash << shardBits >> (64 - uint(bits.TrailingZeros(uint(len(t.buckets))))))
}

func (t *table) find(hash uint64, key []byte) *Entry {
	if len(t.buckets) == 0 {
		return nil
	}
	for e := t.buckets[t.at(hash)]; e != nil && e.hash <= hash; e = e.next {
		if e.hash == hash && bytes.Equal(e.body.key(), key) {
			return e
		}
	}
	return nil
}

// findLSN finds the entry that a record made.
func (t *table) findLSN(hash, lsn uint64) *Entry {
	if len(t.buckets) == 0 {
		return nil
	}
	for e := t.buckets[t.at(hash)]; e != nil && e.hash <= hash; e = e.next {
		if e.hash == hash && e.lsn == lsn {
			return e
		}
	}
	return nil
}

// insert adds an entry whose key is not there.
func (t *table) insert(e *Entry) {
	if t.len >= len(t.buckets) {
		t.grow()
	}
	t.len++
	t.link(e)
}

func (t *table) link(e *Entry) {
	at := &t.buckets[t.at(e.hash)]
	for *at != nil && (*at).hash < e.hash {
		at = &(*at).next
	}
	e.next, *at = *at, e
}

func (t *table) grow() {
	old := t.buckets
	t.buckets = make([]*Entry, max(8, 2*len(old)))
	for _, e := range old {
		for e != nil {
			next := e.next
			t.link(e)
			e = next
		}
	}
}

func (t *table) remove(e *Entry) {
	for at := &t.buckets[t.at(e.hash)]; *at != nil; at = &(*at).next {
		if *at == e {
			*at, e.next = e.next, nil
			t.len--
			return
		}
	}
}

// walk visits entries in the order of their hashes, from a hash on, until visit says no or most were visited. next is the hash
// to go on from; done that there are no more. Entries of one hash come together, whatever visit says to the later ones.
func (t *table) walk(from uint64, most int, visit func(*Entry) bool) (next uint64, done bool) {
	if len(t.buckets) == 0 {
		return 0, true
	}
	var last *Entry
	for b := t.at(from); b < len(t.buckets); b++ {
		for e := t.buckets[b]; e != nil; e = e.next {
			if e.hash < from {
				continue
			}
			again := last != nil && last.hash == e.hash
			if most <= 0 && !again || !visit(e) && !again {
				return e.hash, false
			}
			last = e
			most--
		}
	}
	return 0, true
}
