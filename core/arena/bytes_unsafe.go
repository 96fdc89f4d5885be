package arena

import "unsafe"

// WriterBytes is n bytes at off in the read-write mapping, capacity n. The
// slice is valid until Close; nothing keeps the region open for it.
func (r *Region) WriterBytes(off, n uint64) []byte { return bytesAt(r.WriterAddr(off), n) }

// ReaderBytes is n bytes at off in the read-only mapping; writing to it ends
// the process. The slice is valid until Close.
func (r *Region) ReaderBytes(off, n uint64) []byte { return bytesAt(r.ReaderAddr(off), n) }

// bytesAt takes the address through memory because it is not a Go pointer and
// never was one.
func bytesAt(addr uintptr, n uint64) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), n)
}
