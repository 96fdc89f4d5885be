package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"moorage/core/tensor"
)

// MaxHeader is the longest header that is accepted, in bytes; the limit of the reference implementation.
const MaxHeader = 100_000_000

// LengthSize is the size of the field before the header.
const LengthSize = 8

// metadata is the one field of a header that is not a tensor.
const metadata = "__metadata__"

// Tensor is one tensor of a file. Its bytes are those from Begin to End of the data.
type Tensor struct {
	Name       string
	DType      tensor.DType
	Shape      []int64
	Begin, End uint64
}

// Length reads the field before the header and checks it against the size of the file.
func Length(field [LengthSize]byte, fileSize uint64) (uint64, error) {
	n := binary.LittleEndian.Uint64(field[:])
	switch {
	case fileSize < LengthSize:
		return 0, badf("%d bytes are too few", fileSize)
	case n > MaxHeader:
		return 0, badf("a header of %d bytes is longer than the limit of %d", n, MaxHeader)
	case n > fileSize-LengthSize:
		return 0, badf("a header of %d bytes does not fit a file of %d", n, fileSize)
	}
	return n, nil
}

// Parse reads a header whose data has dataSize bytes. The tensors come in the order of their bytes.
func Parse(header []byte, dataSize uint64) ([]Tensor, error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, badf("the header does not begin with {")
	}
	if !utf8.Valid(header) {
		return nil, badf("the header is not UTF-8")
	}
	p := parser{json.NewDecoder(bytes.NewReader(header))}
	p.UseNumber()
	all, err := p.tensors()
	if err != nil {
		return nil, err
	}
	if rest := header[p.InputOffset():]; strings.Trim(string(rest), " ") != "" {
		return nil, badf("%d bytes follow the header's object", len(rest))
	}
	return all, tile(all, dataSize)
}

// tile puts the tensors in the order of their bytes and checks that they cover the data exactly.
func tile(all []Tensor, dataSize uint64) error {
	slices.SortFunc(all, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End), cmp.Compare(a.Name, b.Name))
	})
	at := uint64(0)
	for _, t := range all {
		if t.Begin != at || t.End < t.Begin {
			return badf("tensor %q has bytes %d to %d, expected to begin at %d", t.Name, t.Begin, t.End, at)
		}
		at = t.End
	}
	if at != dataSize {
		return badf("the tensors have %d bytes, the data %d", at, dataSize)
	}
	return nil
}

// parser reads the header token by token, so that a name given twice is seen.
type parser struct{ *json.Decoder }

func (p parser) tensors() (all []Tensor, err error) {
	seen := map[string]bool{}
	err = p.object(func(name string) error {
		if seen[name] {
			return badf("tensor %q is there twice", name)
		}
		seen[name] = true
		if name == metadata {
			return p.metadata()
		}
		t, err := p.tensor(name)
		all = append(all, t)
		return err
	})
	return all, err
}

// object reads an object and has field read the value of each of its fields.
func (p parser) object(field func(name string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.More() {
		token, err := p.Token()
		if err != nil {
			return badf("%w", err)
		}
		if err := field(token.(string)); err != nil { // the decoder gives nothing else here
			return err
		}
	}
	return p.delim('}')
}

func (p parser) delim(want json.Delim) error {
	token, err := p.Token()
	if err != nil {
		return badf("%w", err)
	}
	if token != want {
		return badf("%v where %v was expected", token, want)
	}
	return nil
}

func (p parser) metadata() error {
	return p.object(func(name string) error {
		var v string
		if err := p.value(&v); err != nil {
			return fmt.Errorf("%s %q: %w", metadata, name, err)
		}
		return nil
	})
}

func (p parser) value(v any) error {
	token := json.RawMessage{}
	if err := p.Decode(&token); err != nil {
		return badf("%w", err)
	}
	if bytes.Equal(token, []byte("null")) {
		return badf("null is no value")
	}
	if err := json.Unmarshal(token, v); err != nil {
		return badf("%w", err)
	}
	return nil
}

func (p parser) tensor(name string) (Tensor, error) {
	t := Tensor{Name: name}
	var dtype string
	var shape, offsets list
	seen := map[string]bool{}
	err := p.object(func(field string) error {
		if seen[field] {
			return badf("field %q is there twice", field)
		}
		seen[field] = true
		switch field {
		case "dtype":
			return p.value(&dtype)
		case "shape":
			return p.value(&shape)
		case "data_offsets":
			return p.value(&offsets)
		}
		return badf("unknown field %q", field)
	})
	if err == nil && len(seen) != 3 {
		err = badf("dtype, shape and data_offsets are needed")
	}
	if err == nil && len(offsets) != 2 {
		err = badf("data_offsets has %d values", len(offsets))
	}
	if err == nil {
		t.Begin, t.End = offsets[0], offsets[1]
		err = t.describe(dtype, shape)
	}
	if err != nil {
		return t, fmt.Errorf("tensor %q: %w", name, err)
	}
	return t, nil
}

// list is an array of numbers without a null among them, which the decoder would take for 0.
type list []uint64

// UnmarshalJSON reads the array.
func (l *list) UnmarshalJSON(text []byte) error {
	var all []*uint64
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	*l = make(list, len(all))
	for i, n := range all {
		if n == nil {
			return badf("[%d] is null", i)
		}
		(*l)[i] = *n
	}
	return nil
}

// describe sets dtype and shape and checks them against the range of bytes.
func (t *Tensor) describe(dtype string, shape []uint64) error {
	d, ok := fromName[dtype]
	if !ok {
		return fmt.Errorf("%w: %q", ErrDType, dtype)
	}
	t.DType, t.Shape = d, make([]int64, len(shape))
	for i, n := range shape {
		if n > 1<<62 {
			return badf("shape[%d] is %d", i, n)
		}
		t.Shape[i] = int64(n)
	}
	if dtype == packed4 {
		if len(shape) == 0 || shape[len(shape)-1]%2 != 0 {
			return badf("the last dimension of %s has to be even", packed4)
		}
		t.Shape[len(shape)-1] /= 2
	}
	size, err := tensor.Bytes(d, t.Shape)
	if err != nil {
		return badf("%w", err)
	}
	if t.End < t.Begin || t.End-t.Begin != size {
		return badf("%s of shape %v has %d bytes, data_offsets are %d and %d", dtype, shape, size, t.Begin, t.End)
	}
	return nil
}
