package tensor

import (
	"fmt"
	"strconv"
	"strings"
)

// The type codes of DLPack 1.x.
const (
	CodeInt               = 0
	CodeUInt              = 1
	CodeFloat             = 2
	CodeOpaque            = 3
	CodeBFloat            = 4
	CodeComplex           = 5
	CodeBool              = 6
	CodeFloat8E3M4        = 7
	CodeFloat8E4M3        = 8
	CodeFloat8E4M3B11FNUZ = 9
	CodeFloat8E4M3FN      = 10
	CodeFloat8E4M3FNUZ    = 11
	CodeFloat8E5M2        = 12
	CodeFloat8E5M2FNUZ    = 13
	CodeFloat8E8M0FNU     = 14
	CodeFloat6E2M3FN      = 15
	CodeFloat6E3M2FN      = 16
	CodeFloat4E2M1FN      = 17
)

// DType is the element type of a tensor: DLPack's DLDataType, field for field.
// A complex number counts both halves in Bits; a bool has 8.
//
// The zero value means "no dtype": an object that was stored as plain bytes.
// It is not [DType.Valid], so that no tensor can come in under it.
//
// float4 exists in two forms, and each is kept as it came. Lanes 2 is torch's
// float4_e2m1fn_x2: the element is a byte with two numbers in it, and may be
// strided like any other. Lanes 1 is DLPack's own packed form: the shape counts
// single numbers, two of them share a byte, so their number must be even and
// the tensor dense.
type DType struct {
	Code  uint8
	Bits  uint8
	Lanes uint16
}

// kind is what a type code may look like. All widths are powers of two, so that
// a set of them is the sum of its members.
type kind struct {
	name   string
	widths uint8
	sized  bool // the name is followed by the width
}

var kinds = [...]kind{
	CodeInt:               {"int", 8 | 16 | 32 | 64, true},
	CodeUInt:              {"uint", 8 | 16 | 32 | 64, true},
	CodeFloat:             {"float", 16 | 32 | 64, true},
	CodeOpaque:            {"opaque handle", 0, false},
	CodeBFloat:            {"bfloat", 16, true},
	CodeComplex:           {"complex", 32 | 64 | 128, true},
	CodeBool:              {"bool", 8, false},
	CodeFloat8E3M4:        {"float8_e3m4", 8, false},
	CodeFloat8E4M3:        {"float8_e4m3", 8, false},
	CodeFloat8E4M3B11FNUZ: {"float8_e4m3b11fnuz", 8, false},
	CodeFloat8E4M3FN:      {"float8_e4m3fn", 8, false},
	CodeFloat8E4M3FNUZ:    {"float8_e4m3fnuz", 8, false},
	CodeFloat8E5M2:        {"float8_e5m2", 8, false},
	CodeFloat8E5M2FNUZ:    {"float8_e5m2fnuz", 8, false},
	CodeFloat8E8M0FNU:     {"float8_e8m0fnu", 8, false},
	// Neither torch nor numpy has a 6 bit type. (ml_dtypes pads it to a byte,
	// which the triple cannot say.)
	CodeFloat6E2M3FN: {"float6_e2m3fn", 0, false},
	CodeFloat6E3M2FN: {"float6_e3m2fn", 0, false},
	CodeFloat4E2M1FN: {"float4_e2m1fn", 4, false},
}

// None reports whether d is the zero value: plain bytes without a dtype.
func (d DType) None() bool { return d == DType{} }

// Valid says whether tensors of this type can be stored: whatever torch or
// numpy can hold on a CPU. The error wraps [ErrDType].
func (d DType) Valid() error {
	if d.valid() {
		return nil
	}
	if d.None() {
		return fmt.Errorf("%w: none given", ErrDType)
	}
	return fmt.Errorf("%w: %s", ErrDType, d)
}

func (d DType) valid() bool {
	if int(d.Code) >= len(kinds) || d.Bits&(d.Bits-1) != 0 || kinds[d.Code].widths&d.Bits == 0 {
		return false
	}
	return d.Lanes == 1 || d.Lanes == 2 && d.Code == CodeFloat4E2M1FN
}

// Size is the number of bytes of one element, and 0 for float4 of one lane,
// which has half a byte, and for types that are not [DType.Valid].
func (d DType) Size() uint64 {
	if !d.valid() {
		return 0
	}
	return d.bits() / 8
}

func (d DType) bits() uint64 { return uint64(d.Bits) * uint64(d.Lanes) }

// String is the name that torch, numpy or ml_dtypes has for the type: "float32",
// "float8_e4m3fn", "float4_e2m1fn_x2". Types that are not Valid are spelled out.
func (d DType) String() string {
	if d.None() {
		return "none"
	}
	name := "unknown"
	if int(d.Code) < len(kinds) {
		name = kinds[d.Code].name
	}
	switch {
	case !d.valid():
		return fmt.Sprintf("%s (code %d, bits %d, lanes %d)", name, d.Code, d.Bits, d.Lanes)
	case kinds[d.Code].sized:
		return name + strconv.Itoa(int(d.Bits))
	case d.Lanes == 2:
		return name + "_x2"
	}
	return name
}

// ParseDType is the inverse of [DType.String] for the types that are Valid. The
// error wraps [ErrDType].
func ParseDType(name string) (DType, error) {
	for code, k := range kinds {
		for width := 4; width <= 128; width *= 2 {
			d := DType{Code: uint8(code), Bits: uint8(width), Lanes: 1}
			if k.widths&d.Bits == 0 || !strings.HasPrefix(name, k.name) {
				continue
			}
			if d.String() == name {
				return d, nil
			}
			if d.Lanes = 2; d.valid() && d.String() == name {
				return d, nil
			}
		}
	}
	return DType{}, fmt.Errorf("%w: no type is called %q", ErrDType, name)
}
