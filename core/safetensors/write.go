package safetensors

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"moorage/core/tensor"
)

// align is what the data begins at a multiple of, as the reference implementation writes it.
const align = 8

// Arrange gives tensors their place in the data, those with the widest elements first so that all are aligned, and
// returns the header with the field before it. all is put in the order of the bytes.
func Arrange(all []Tensor) ([]byte, error) {
	slices.SortFunc(all, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.DType.Size(), a.DType.Size()), cmp.Compare(a.Name, b.Name))
	})
	seen := make(map[string]bool, len(all))
	out := append(make([]byte, LengthSize), `{"`+metadata+`":{"format":"pt"}`...)
	at := uint64(0)
	for i := range all {
		t := &all[i]
		switch {
		case seen[t.Name]:
			return nil, badf("tensor %q is there twice", t.Name)
		case t.Name == metadata:
			return nil, badf("%q is no name for a tensor", t.Name)
		case !utf8.ValidString(t.Name):
			return nil, badf("the name %q is not UTF-8", t.Name)
		}
		seen[t.Name] = true
		size, err := tensor.Bytes(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		t.Begin, t.End = at, at+size
		at = t.End
		if out, err = t.appendTo(out); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
	}
	out = append(out, '}')
	for len(out)%align != 0 {
		out = append(out, ' ')
	}
	if len(out)-LengthSize > MaxHeader {
		return nil, badf("a header of %d bytes is longer than the limit of %d", len(out)-LengthSize, MaxHeader)
	}
	binary.LittleEndian.PutUint64(out, uint64(len(out)-LengthSize))
	return out, nil
}

func (t *Tensor) appendTo(out []byte) ([]byte, error) {
	dtype, ok := toName[t.DType]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrDType, t.DType)
	}
	shape := append([]int64{}, t.Shape...)
	if dtype == packed4 {
		if len(shape) == 0 {
			return nil, fmt.Errorf("%w: %s without dimensions", ErrDType, t.DType)
		}
		shape[len(shape)-1] *= 2
	}
	name, err := json.Marshal(t.Name)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		DType   string    `json:"dtype"`
		Shape   []int64   `json:"shape"`
		Offsets [2]uint64 `json:"data_offsets"`
	}{dtype, shape, [2]uint64{t.Begin, t.End}})
	if err != nil {
		return nil, err
	}
	return append(append(append(append(out, ','), name...), ':'), body...), nil
}
