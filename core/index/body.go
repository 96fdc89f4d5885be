package index

import (
	"fmt"

	"moorage/core/arena/cell"
)

// Limits of a body.
const (
	MaxKey  = 4096
	MaxMeta = 4096
	MaxDims = 64

	maxBody = cell.BodySize + 8*MaxDims + MaxKey + MaxMeta
)

// Content is what a body holds. The slices given to WriteBody are copied.
type Content struct {
	Key    []byte
	Meta   []byte // user metadata
	Tensor bool   // the object has a dtype and a shape; else it is plain bytes and the four fields below are not used
	Code   uint8  // DLPack type code
	Bits   uint8
	Lanes  uint16
	Shape  []int64
}

// BodyBytes checks the limits and returns how many bytes a body takes.
func BodyBytes(keyLen, ndim, metaLen int) (int, error) {
	switch {
	case keyLen < 1 || keyLen > MaxKey:
		return 0, fmt.Errorf("%w, not %d", ErrKeyLength, keyLen)
	case ndim < 0 || ndim > MaxDims:
		return 0, fmt.Errorf("%w, not %d", ErrDimensions, ndim)
	case metaLen < 0 || metaLen > MaxMeta:
		return 0, fmt.Errorf("%w, not %d", ErrMetaLength, metaLen)
	}
	return cell.BodySize + 8*ndim + keyLen + metaLen, nil
}

// WriteBody fills a body that was just handed out. On an error nothing is written.
func (h *Heap) WriteBody(body uint32, v Content) error {
	if !v.Tensor {
		v.Shape, v.Code, v.Bits, v.Lanes = nil, 0, 0, 0
	}
	n, err := BodyBytes(len(v.Key), len(v.Shape), len(v.Meta))
	if err != nil {
		return err
	}
	// A body always stands one cell behind the start of its block.
	if room := (int(h.At(body-cellUnits).Units) - cellUnits) * cell.Unit; n > room {
		return fmt.Errorf("%w: %d bytes into %d", ErrBodySize, n, room)
	}
	b := h.BodyAt(body)
	b.KeyLen, b.MetaLen, b.NDim = uint16(len(v.Key)), uint16(len(v.Meta)), uint8(len(v.Shape))
	b.DCode, b.DBits, b.DLanes = v.Code, v.Bits, v.Lanes
	b.Tensor, b.Pinned = 0, 0
	if v.Tensor {
		b.Tensor = 1
	}
	copy(Shape(b), v.Shape)
	copy(Key(b), v.Key)
	copy(Meta(b), v.Meta)
	return nil
}

// Key is the key of the record at a unit, nil while it has no body. Valid until the record is freed; not to be
// written to.
func (h *Heap) Key(unit uint32) []byte {
	if body := h.At(unit).Body; body != 0 {
		return Key(h.BodyAt(body))
	}
	return nil
}
