package tier

import "bytes"

// ListEnd is the cursor behind the last key.
const ListEnd = ^uint64(0)

// listPiece is how many names one List looks at.
const listPiece = 256

// List gives keys that start with prefix to visit, from a cursor on that begins at 0, and returns the cursor to go on from,
// ListEnd at the end. Each key that is there throughout comes exactly once. When visit returns false the call ends, and the key
// comes again with the next one. (Keys with equal hashes, of 64 bits, come together: if there are any, a call ends before the
// first of them.) visit is called under a lock and must not call the disk; the key is valid during the call. One call looks
// at a bounded number of names.
func (d *Disk) List(prefix []byte, cursor uint64, visit func(key []byte, resident bool) bool) (next uint64) {
	if cursor == ListEnd || d.closed.Load() {
		return ListEnd
	}
	number := cursor >> (64 - shardBits)
	s := &d.shards[number]
	s.mu.RLock()
	defer s.mu.RUnlock()
	next, done := s.table.walk(cursor, listPiece, func(e *Entry) bool {
		key := e.body.key()
		return !bytes.HasPrefix(key, prefix) || visit(key, e.resident.Load())
	})
	if !done {
		return next
	}
	if number == shards-1 {
		return ListEnd
	}
	return (number + 1) << (64 - shardBits)
}

// Keys gives all keys that start with a prefix, in no order.
func (d *Disk) Keys(prefix []byte) (keys [][]byte) {
	for cursor := uint64(0); cursor != ListEnd; {
		cursor = d.List(prefix, cursor, func(key []byte, _ bool) bool {
			keys = append(keys, bytes.Clone(key))
			return true
		})
	}
	return keys
}
