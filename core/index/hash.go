package index

import "hash/maphash"

// seed differs from process to process, so that nobody can choose keys that collide.
var seed = maphash.MakeSeed()

// Shards is the number of shards that Shard tells apart.
const Shards = 64

// Hash is the hash of a key in this process.
func Hash(key []byte) uint64 { return maphash.Bytes(seed, key) }

// Tag is the part of a hash that orders and finds a key inside its table.
func Tag(hash uint64) uint32 { return uint32(hash >> 32) }

// Shard is the part of a hash that chooses the table. It shares no bit with Tag.
func Shard(hash uint64) int { return int(hash % Shards) }
