package tier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"moorage/core/index"
	"moorage/core/tier/blocks"
)

// The kinds of records in the journal, and their bodies.
const (
	// recordPut: an object is there. The body is below.
	recordPut = 1 + iota
	// recordRemove: the key's objects up to a sequence number are gone: 8 bytes, then the key.
	recordRemove
	// recordClean: the directory was closed in good order.
	recordClean
	// recordEnd closes a snapshot: how many objects it has.
	recordEnd
)

// A body of recordPut, little-endian:
//
//	 0  sequence number
//	 8  bytes of the object
//	16  number of runs, 32 bits
//	20  length of the key, 16 bits
//	22  length of the metadata, 16 bits
//	24  dimensions
//	25  1: a tensor
//	26  DLPack type: code, bits, lanes (16 bits)
//	30  0, 0
//	32  shape, 8 bytes each; runs, 12 bytes each; checksums of the chunks, 4 bytes each; key; metadata
const bodyFixed = 32

// ChunkBytes is the part of an object that has a checksum of its own.
const ChunkBytes = 256 << 10

// MaxObject is the largest object, in bytes.
const MaxObject = 256 << 30

func chunksOf(size uint64) uint64 { return (size + ChunkBytes - 1) / ChunkBytes }
func blocksOf(size uint64) uint64 { return (size + blocks.Size - 1) / blocks.Size }

var errBody = errors.New("a record makes no sense")

// body is that of a put, as it stands in the journal.
type body []byte

func makeBody(seq, size uint64, runs []blocks.Run, crcs []uint32, c index.Content) body {
	if !c.Tensor {
		c.Shape, c.Code, c.Bits, c.Lanes = nil, 0, 0, 0
	}
	b := make(body, 0, bodyFixed+8*len(c.Shape)+12*len(runs)+4*len(crcs)+len(c.Key)+len(c.Meta))
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, size)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(runs)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Key)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Meta)))
	tensor := byte(0)
	if c.Tensor {
		tensor = 1
	}
	b = append(b, byte(len(c.Shape)), tensor, c.Code, c.Bits)
	b = binary.LittleEndian.AppendUint16(b, c.Lanes)
	b = append(b, 0, 0)
	for _, n := range c.Shape {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, r := range runs {
		b = binary.LittleEndian.AppendUint32(b, r.Segment)
		b = binary.LittleEndian.AppendUint32(b, r.Start)
		b = binary.LittleEndian.AppendUint32(b, r.Count)
	}
	for _, crc := range crcs {
		b = binary.LittleEndian.AppendUint32(b, crc)
	}
	b = append(b, c.Key...)
	return append(b, c.Meta...)
}

func (b body) seq() uint64  { return binary.LittleEndian.Uint64(b) }
func (b body) size() uint64 { return binary.LittleEndian.Uint64(b[8:]) }
func (b body) runCount() int {
	return int(binary.LittleEndian.Uint32(b[16:]))
}
func (b body) keyLen() int  { return int(binary.LittleEndian.Uint16(b[20:])) }
func (b body) metaLen() int { return int(binary.LittleEndian.Uint16(b[22:])) }
func (b body) dims() int    { return int(b[24]) }

func (b body) runsAt() int { return bodyFixed + 8*b.dims() }
func (b body) crcsAt() int { return b.runsAt() + 12*b.runCount() }
func (b body) keyAt() int  { return b.crcsAt() + 4*int(chunksOf(b.size())) }

func (b body) key() []byte { at := b.keyAt(); return b[at : at+b.keyLen() : at+b.keyLen()] }
func (b body) meta() []byte {
	at := b.keyAt() + b.keyLen()
	return b[at : at+b.metaLen() : at+b.metaLen()]
}

func (b body) crc(chunk uint64) uint32 {
	return binary.LittleEndian.Uint32(b[uint64(b.crcsAt())+4*chunk:])
}

func (b body) run(i int) blocks.Run {
	r := b[b.runsAt()+12*i:]
	return blocks.Run{
		Segment: binary.LittleEndian.Uint32(r), Start: binary.LittleEndian.Uint32(r[4:]), Count: binary.LittleEndian.Uint32(r[8:]),
	}
}

func (b body) runs() []blocks.Run { return b.appendRuns(make([]blocks.Run, 0, b.runCount())) }

func (b body) appendRuns(to []blocks.Run) []blocks.Run {
	for i := range b.runCount() {
		to = append(to, b.run(i))
	}
	return to
}

// content gives everything but the bytes; its slices are the body's own.
func (b body) content() index.Content {
	c := index.Content{
		Key: b.key(), Meta: b.meta(), Tensor: b[25] != 0, Code: b[26], Bits: b[27], Lanes: binary.LittleEndian.Uint16(b[28:]),
	}
	if n := b.dims(); n > 0 {
		c.Shape = make([]int64, n)
		for i := range c.Shape {
			c.Shape[i] = int64(binary.LittleEndian.Uint64(b[bodyFixed+8*i:]))
		}
	}
	return c
}

// check says whether a body that was read makes sense. The checksum of the record was good, so this is for what other programs,
// or later versions, have written.
func (b body) check() error {
	if len(b) < bodyFixed {
		return fmt.Errorf("%w: %d bytes", errBody, len(b))
	}
	size, runs := b.size(), uint64(b.runCount())
	if size > MaxObject || runs > blocks.MaxRuns || b.dims() > index.MaxDims || b.keyLen() < 1 || b.keyLen() > index.MaxKey || b.metaLen() > index.MaxMeta {
		return fmt.Errorf("%w: %d bytes in %d runs, a key of %d", errBody, size, runs, b.keyLen())
	}
	if want := b.keyAt() + b.keyLen() + b.metaLen(); want != len(b) {
		return fmt.Errorf("%w: %d bytes, not %d", errBody, len(b), want)
	}
	have := uint64(0)
	for i := range int(runs) {
		have += uint64(b.run(i).Count)
	}
	if have != blocksOf(size) {
		return fmt.Errorf("%w: %d blocks for %d bytes", errBody, have, size)
	}
	return nil
}

func makeRemoval(upTo uint64, key []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(key)), upTo), key...)
}

func readRemoval(b []byte) (upTo uint64, key []byte, err error) {
	if len(b) < 9 || len(b) > 8+index.MaxKey {
		return 0, nil, fmt.Errorf("%w: %d bytes", errBody, len(b))
	}
	return binary.LittleEndian.Uint64(b), b[8:], nil
}

// hasher hashes keys: the same in every process that opens the directory, and no other directory's.
type hasher struct{ seed uint64 }

const (
	prime1 = 0x9e3779b97f4a7c15
	prime2 = 0xa0761d6478bd642f
	prime3 = 0xe7037ed1a0b428db
)

func mix(a, b uint64) uint64 { hi, lo := bits.Mul64(a, b); return hi ^ lo }

// hash takes 16 bytes at a time, each pair multiplied into the state, as wyhash does.
func (h hasher) hash(key []byte) uint64 {
	state, n := h.seed, len(key)
	for ; len(key) > 16; key = key[16:] {
		state = mix(binary.LittleEndian.Uint64(key)^prime2, binary.LittleEndian.Uint64(key[8:])^state)
	}
	var last [16]byte
	copy(last[:], key)
	state = mix(binary.LittleEndian.Uint64(last[:])^prime3, binary.LittleEndian.Uint64(last[8:])^state)
	return mix(state^prime1, uint64(n)^prime2)
}

func makeHasher(tier [16]byte) hasher {
	return hasher{mix(binary.LittleEndian.Uint64(tier[:])^prime1, binary.LittleEndian.Uint64(tier[8:])^prime2)}
}
