// Package journal is the files in which the disk tier writes down what it has: journals that are appended to, snapshots that
// are written once, and the first page of every file.
//
// # A record
//
// 48 bytes of header, little-endian, then the body, then zeros up to the next multiple of 8:
//
//	0   "mrec"
//	4   CRC32C of bytes 8 to 48, begun with the tier's identity
//	8   number of the record; journals count without gaps, through all their files
//	16  the number up to which all records were durable when this one was made
//	24  hash of the key that the record is about
//	32  the hash in the record before it
//	40  length of the body; the kind in the top byte
//	44  CRC32C of the body, begun in the same way
//
// The third field tells a torn tail from damage. What no later record knows to have been durable is the end of a journal that
// nobody was promised: it is cut off. Anything else that cannot be read is damage and reported, with the numbers that are
// missing. The header has its own checksum, so that a damaged body is still known by its hash and length; the next
// record repeats the hash, and every 32 records an echo repeats the last 64, so that of a few pages that are lost it is still known
// which keys they were about. That matters because an older record of such a key must not come to life again.
//
// # Files
//
// Each file begins with a page that holds its header twice. A journal is created with its header under another name, made
// durable and renamed, and names the length of the one before it: what lies behind that is cut off for good, and cannot be
// taken for the continuation of anything.
//
// # Concurrency
//
// A [Log] is safe for concurrent use. Append only copies into memory; Write and Sync take along all that was appended, so
// callers that come together share one.
package journal
