package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"moorage/core/tier/crc32c"
	"moorage/core/tier/file"
)

// Kind says what a file is.
type Kind uint32

// The kinds of files.
const (
	Journal Kind = 1 + iota
	Snapshot
	Segment
)

func (k Kind) String() string {
	if k < Journal || k > Segment {
		return "file"
	}
	return [...]string{"journal", "snapshot", "segment"}[k-Journal]
}

// HeaderBytes is what a header takes at the beginning of a file.
const HeaderBytes = 4096

// Version is that of the format.
const Version = 1

const (
	headerCopy = HeaderBytes / 2
	headerLen  = 92
)

var magic = []byte("moorage\x00")

// Header is what the first page of a file says. The meaning of the values is that of its kind.
type Header struct {
	Kind   Kind
	Tier   [16]byte // which directory it belongs to; random
	Number uint64
	Values [6]uint64
}

// Seed begins the checksums of a tier's records.
func Seed(tier [16]byte) uint32 { return crc32c.Checksum(tier[:]) }

// Encode fills the first HeaderBytes of page.
func (h *Header) Encode(page []byte) {
	page = page[:HeaderBytes]
	clear(page)
	b := append(page[:0], magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Kind))
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = append(b, h.Tier[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.Number)
	for _, v := range h.Values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32c.Checksum(b))
	copy(page[headerCopy:], b)
}

// DecodeHeader reads a first page. damaged: one of its copies is.
func DecodeHeader(page []byte, kind Kind) (h Header, damaged bool, err error) {
	if len(page) < HeaderBytes {
		return h, false, fmt.Errorf("%w: %d bytes", ErrHeader, len(page))
	}
	first, errFirst := decodeCopy(page[:headerLen], kind)
	second, errSecond := decodeCopy(page[headerCopy:headerCopy+headerLen], kind)
	switch {
	case errFirst == nil:
		return first, errSecond != nil || first != second, nil
	case errSecond == nil:
		return second, true, nil
	case !bytes.Equal(page[:16], page[headerCopy:headerCopy+16]): // no two copies of anything
		return h, true, ErrHeader
	}
	return h, true, errFirst
}

func decodeCopy(b []byte, kind Kind) (h Header, err error) {
	if !bytes.Equal(b[:8], magic) {
		if bytes.Count(b, []byte{0}) == len(b) {
			return h, fmt.Errorf("%w: zeros", ErrHeader)
		}
		return h, ErrForeign
	}
	h.Kind = Kind(binary.LittleEndian.Uint32(b[8:]))
	if v := binary.LittleEndian.Uint32(b[12:]); v != Version {
		return h, fmt.Errorf("%w: version %d, this one reads %d", ErrNewer, v, Version)
	}
	if crc32c.Checksum(b[:headerLen-4]) != binary.LittleEndian.Uint32(b[headerLen-4:]) {
		return h, ErrHeader
	}
	if h.Kind != kind {
		return h, fmt.Errorf("%w: a %v where a %v should be", ErrForeign, h.Kind, kind)
	}
	copy(h.Tier[:], b[16:])
	h.Number = binary.LittleEndian.Uint64(b[32:])
	for i := range h.Values {
		h.Values[i] = binary.LittleEndian.Uint64(b[40+8*i:])
	}
	return h, nil
}

// ReadHeader reads a file's.
func ReadHeader(f file.File, kind Kind) (h Header, damaged bool, err error) {
	page := make([]byte, HeaderBytes)
	n, err := f.ReadAt(page, 0)
	if n < HeaderBytes {
		size, sizeErr := f.Size()
		if sizeErr != nil {
			return h, false, sizeErr
		}
		if size >= HeaderBytes {
			return h, false, err // it is there and could not be read
		}
	}
	return DecodeHeader(page[:n], kind)
}

// TempName is the name of a file that is being made.
const TempName = "making"

// Create makes a file that begins with a header, durable from its first moment under its name.
func Create(dir file.Dir, name string, h Header) (file.File, error) {
	f, err := Begin(dir)
	if err != nil {
		return nil, err
	}
	page := make([]byte, HeaderBytes)
	h.Encode(page)
	if _, err = f.WriteAt(page, 0); err == nil {
		err = Finish(dir, f, name)
	}
	if err != nil {
		_ = f.Close()
		_ = dir.Remove(TempName)
		return nil, err
	}
	return f, nil
}

// Begin makes an empty file that has no name of its own yet. One at a time.
func Begin(dir file.Dir) (file.File, error) {
	f, err := dir.Open(TempName, file.Create)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Finish makes what Begin began durable, and gives it its name. An ErrBroken says that it may have the name, or get it by a loss of
// power.
func Finish(dir file.Dir, f file.File, name string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := errors.Join(dir.Rename(TempName, name), dir.Sync()); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}
