package journal

import (
	"encoding/binary"

	"moorage/core/tier/crc32c"
)

// MaxBody is the longest body.
const MaxBody = 1<<24 - 1

const (
	recordHeader = 48
	recordMagic  = 0x6365726d // "mrec"

	// KindEcho is the kind of the records that the log makes itself. Those of its users are larger.
	KindEcho = 0

	// NoKey is the hash of records that are about no key. 0 is not used.
	NoKey = 1

	echoEvery = 32
	echoOf    = 64
)

// Record is one, as it was read. Body is valid during the call that gives it.
type Record struct {
	LSN    uint64 // its number
	Synced uint64 // all up to this number were durable when it was made
	Hash   uint64 // of the key
	Before uint64 // the hash in the record before it
	Kind   uint8
	Body   []byte
}

// AppendRecord appends it to b as it stands in a file.
func AppendRecord(b []byte, seed uint32, r Record) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, r.LSN)
	b = binary.LittleEndian.AppendUint64(b, r.Synced)
	b = binary.LittleEndian.AppendUint64(b, r.Hash)
	b = binary.LittleEndian.AppendUint64(b, r.Before)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Body))|uint32(r.Kind)<<24)
	b = binary.LittleEndian.AppendUint32(b, crc32c.Update(seed, r.Body))
	binary.LittleEndian.PutUint32(b[start+4:], crc32c.Update(seed, b[start+8:]))
	b = append(b, r.Body...)
	for len(b)%8 != start%8 {
		b = append(b, 0)
	}
	return b
}

// head is a record's header, decoded.
type head struct {
	Record
	length int    // of the body
	crc    uint32 // of the body
}

// whole is what the record takes in the file.
func (h *head) whole() int64 { return int64(recordHeader+h.length+7) &^ 7 }

func decodeHead(b []byte, seed uint32) (h head, ok bool) {
	if len(b) < recordHeader || binary.LittleEndian.Uint32(b) != recordMagic ||
		crc32c.Update(seed, b[8:recordHeader]) != binary.LittleEndian.Uint32(b[4:]) {
		return h, false
	}
	h.LSN = binary.LittleEndian.Uint64(b[8:])
	h.Synced = binary.LittleEndian.Uint64(b[16:])
	h.Hash = binary.LittleEndian.Uint64(b[24:])
	h.Before = binary.LittleEndian.Uint64(b[32:])
	length := binary.LittleEndian.Uint32(b[40:])
	h.length, h.Kind = int(length&MaxBody), uint8(length>>24)
	h.crc = binary.LittleEndian.Uint32(b[44:])
	return h, h.Synced < h.LSN
}

// Echo calls visit with the numbers and hashes of earlier records that this one repeats.
func (r *Record) Echo(visit func(lsn, hash uint64)) {
	if r.Before != 0 { // else it is the first one of a log
		visit(r.LSN-1, r.Before)
	}
	if r.Kind != KindEcho {
		return
	}
	n := uint64(len(r.Body) / 8)
	for i := range n {
		if lsn := r.LSN - n + i; lsn < r.LSN {
			visit(lsn, binary.LittleEndian.Uint64(r.Body[8*i:]))
		}
	}
}
