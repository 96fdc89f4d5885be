package safetensors

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

func dtype(t testing.TB, name string) tensor.DType {
	t.Helper()
	d, err := tensor.ParseDType(name)
	require.NoError(t, err)
	return d
}

func TestParse(t *testing.T) {
	all, err := Parse([]byte(`{"__metadata__":{"format":"pt","by":"me"},`+
		`"w":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},`+
		`"none":{"dtype":"F64","shape":[0,5],"data_offsets":[26,26]},"":{"dtype":"U8","shape":[],"data_offsets":[26,27]},`+
		`"é/\u00e9":{"data_offsets":[27,29],"shape":[2,2],"dtype":"F4"}}   `), 29)
	require.NoError(t, err)
	require.Equal(t, []Tensor{
		{"b", dtype(t, "bool"), []int64{2}, 0, 2},
		{"w", dtype(t, "float32"), []int64{2, 3}, 2, 26},
		{"none", dtype(t, "float64"), []int64{0, 5}, 26, 26},
		{"", dtype(t, "uint8"), []int64{}, 26, 27},
		{"é/é", dtype(t, "float4_e2m1fn_x2"), []int64{2, 1}, 27, 29},
	}, all)
	all, err = Parse([]byte(`{}`), 0)
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestHostileHeaders(t *testing.T) {
	one := func(body string) string { return `{"a":{` + body + `}}` }
	of := func(dtype, shape, offsets string) string {
		return one(fmt.Sprintf(`"dtype":%s,"shape":%s,"data_offsets":%s`, dtype, shape, offsets))
	}
	good := `{"dtype":"U8","shape":[4],"data_offsets":[0,4]}`
	for name, header := range map[string]string{
		"empty":                    ``,
		"blank first":              ` {}`,
		"no object":                `[]`,
		"cut":                      `{"a":`,
		"cut in the end":           `{"a":` + good,
		"not JSON":                 `{a}`,
		"number as name":           `{1:` + good + `}`,
		"two commas":               `{"a":` + good + `,,}`,
		"comma at the end":         `{"a":` + good + `,}`,
		"two objects":              `{"a":` + good + `}{}`,
		"garbage behind":           `{"a":` + good + "}\x00",
		"newline behind":           `{"a":` + good + "}\n",
		"name twice":               `{"a":` + good + `,"a":` + good + `}`,
		"name twice, escaped":      `{"a":` + good + `,"\u0061":` + good + `}`,
		"not UTF-8":                "{\"a\xff\":" + good + `}`,
		"metadata twice":           `{"__metadata__":{},"__metadata__":{},"a":` + good + `}`,
		"metadata is a list":       `{"__metadata__":[],"a":` + good + `}`,
		"metadata is null":         `{"__metadata__":null,"a":` + good + `}`,
		"number in metadata":       `{"__metadata__":{"x":1},"a":` + good + `}`,
		"null in metadata":         `{"__metadata__":{"x":null},"a":` + good + `}`,
		"deep metadata":            `{"__metadata__":{"x":{"y":"z"}},"a":` + good + `}`,
		"tensor is null":           `{"a":null}`,
		"tensor is a list":         `{"a":[]}`,
		"no dtype":                 one(`"shape":[4],"data_offsets":[0,4]`),
		"no shape":                 one(`"dtype":"U8","data_offsets":[0,4]`),
		"no offsets":               one(`"dtype":"U8","shape":[4]`),
		"shape twice":              one(`"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]`),
		"other field":              one(`"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1`),
		"other case":               one(`"DTYPE":"U8","shape":[4],"data_offsets":[0,4]`),
		"dtype is a number":        of(`8`, `[4]`, `[0,4]`),
		"dtype is null":            of(`null`, `[4]`, `[0,4]`),
		"shape is a number":        of(`"U8"`, `4`, `[0,4]`),
		"shape is null":            of(`"U8"`, `null`, `[0,4]`),
		"null in shape":            of(`"U8"`, `[null]`, `[0,4]`),
		"null in offsets":          of(`"U8"`, `[4]`, `[null,4]`),
		"null as the end":          of(`"U8"`, `[0]`, `[0,null]`),
		"text in shape":            of(`"U8"`, `["4"]`, `[0,4]`),
		"negative size":            of(`"U8"`, `[-4]`, `[0,4]`),
		"negative sizes":           of(`"U8"`, `[-2,-2]`, `[0,4]`),
		"float size":               of(`"U8"`, `[4.0]`, `[0,4]`),
		"exponent":                 of(`"U8"`, `[4e0]`, `[0,4]`),
		"size of 65 bits":          of(`"U8"`, `[18446744073709551620]`, `[0,4]`),
		"size of 64 bits":          of(`"U8"`, `[18446744073709551615]`, `[0,4]`),
		"product overflows":        of(`"U8"`, `[4294967296,4294967296,4]`, `[0,4]`),
		"product overflows to 4":   of(`"F32"`, `[4611686018427387905]`, `[0,4]`),
		"bytes overflow":           of(`"F64"`, `[2305843009213693952]`, `[0,0]`),
		"one offset":               of(`"U8"`, `[4]`, `[4]`),
		"three offsets":            of(`"U8"`, `[4]`, `[0,4,4]`),
		"float offset":             of(`"U8"`, `[4]`, `[0,4.0]`),
		"negative offset":          of(`"U8"`, `[4]`, `[-4,0]`),
		"end before begin":         of(`"U8"`, `[4]`, `[8,4]`),
		"too short":                of(`"U8"`, `[4]`, `[0,3]`),
		"too long":                 of(`"U8"`, `[4]`, `[0,5]`),
		"past the data":            of(`"U8"`, `[5]`, `[0,5]`),
		"gap in front":             of(`"U8"`, `[3]`, `[1,4]`),
		"gap behind":               of(`"U8"`, `[3]`, `[0,3]`),
		"nothing but data":         `{}`,
		"overlap":                  `{"a":` + good + `,"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`,
		"the same bytes":           `{"a":` + good + `,"b":` + good + `}`,
		"gap between":              `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`,
		"empty tensor in a gap":    `{"a":` + good + `,"b":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}}`,
		"empty tensor in another":  `{"a":` + good + `,"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`,
		"odd F4":                   of(`"F4"`, `[1,9]`, `[0,4]`),
		"F4 without dimensions":    of(`"F4"`, `[]`, `[0,4]`),
		"deep nesting in a tensor": one(`"dtype":"U8","shape":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)),
		"deep nesting":             strings.Repeat(`{"a":`, 20000),
	} {
		_, err := Parse([]byte(header), 4)
		require.ErrorIs(t, err, ErrFormat, name)
	}
	for _, unknown := range []string{`"F128"`, `"f32"`, `""`, `"F6_E2M3"`} {
		_, err := Parse([]byte(of(unknown, `[4]`, `[0,4]`)), 4)
		require.ErrorIs(t, err, ErrDType, unknown)
	}
}

func TestLength(t *testing.T) {
	for _, c := range []struct {
		n, file uint64
		ok      bool
	}{
		{0, 0, false}, {0, 7, false}, {0, 8, true}, {2, 10, true}, {3, 10, false}, {1 << 63, 10, false}, {1<<64 - 1, 7, false},
		{MaxHeader, 1 << 40, true}, {MaxHeader + 1, 1 << 40, false},
	} {
		var field [LengthSize]byte
		binary.LittleEndian.PutUint64(field[:], c.n)
		n, err := Length(field, c.file)
		if c.ok {
			require.NoError(t, err, "%+v", c)
			require.Equal(t, c.n, n)
		} else {
			require.ErrorIs(t, err, ErrFormat, "%+v", c)
		}
	}
}

func examples(t testing.TB) []Tensor {
	return []Tensor{
		{Name: "bytes", DType: dtype(t, "uint8"), Shape: []int64{3}},
		{Name: "a <&> \"q\"\n\u2028", DType: dtype(t, "float64"), Shape: []int64{}},
		{Name: "half", DType: dtype(t, "bfloat16"), Shape: []int64{2, 2}},
		{Name: "packed", DType: dtype(t, "float4_e2m1fn_x2"), Shape: []int64{2, 3}},
		{Name: "complex", DType: dtype(t, "complex64"), Shape: []int64{1}},
		{Name: "nothing", DType: dtype(t, "int32"), Shape: []int64{0}},
	}
}

// The golden file is read back by the reference implementation in the Python tests.
func TestArrangeWritesTheGoldenHeader(t *testing.T) {
	got, err := Arrange(examples(t))
	require.NoError(t, err)
	path := filepath.Join("testdata", "header.golden")
	if os.Getenv("MOORAGE_UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestArrangeAndParseAgree(t *testing.T) {
	all := examples(t)
	file, err := Arrange(all)
	require.NoError(t, err)
	require.Zero(t, len(file)%align)
	end := all[len(all)-1].End
	n, err := Length([LengthSize]byte(file[:LengthSize]), uint64(len(file))+end)
	require.NoError(t, err)
	require.EqualValues(t, len(file)-LengthSize, n)
	back, err := Parse(file[LengthSize:], end)
	require.NoError(t, err)
	require.ElementsMatch(t, all, back)
	for _, x := range all {
		if size := uint64(x.DType.Size()); size > 0 {
			require.Zero(t, x.Begin%min(size, align), "%s is not aligned", x.Name)
		}
	}
}

func TestArrangeRefuses(t *testing.T) {
	u8, f32 := dtype(t, "uint8"), dtype(t, "float32")
	for name, c := range map[string]struct {
		all  []Tensor
		kind error
	}{
		"name twice":              {[]Tensor{{Name: "a", DType: u8}, {Name: "a", DType: u8}}, ErrFormat},
		"name twice, other width": {[]Tensor{{Name: "a", DType: u8}, {Name: "b", DType: f32}, {Name: "a", DType: f32}}, ErrFormat},
		"metadata":                {[]Tensor{{Name: metadata, DType: u8}}, ErrFormat},
		"not UTF-8":               {[]Tensor{{Name: "\xff", DType: u8}}, ErrFormat},
		"no such dtype":           {[]Tensor{{Name: "a", DType: dtype(t, "complex128")}}, ErrDType},
		"F4 without dimensions":   {[]Tensor{{Name: "a", DType: dtype(t, "float4_e2m1fn_x2")}}, ErrDType},
	} {
		_, err := Arrange(c.all)
		require.ErrorIs(t, err, c.kind, name)
	}
}

func FuzzParse(f *testing.F) {
	if golden, err := os.ReadFile(filepath.Join("testdata", "header.golden")); err == nil {
		f.Add(golden[LengthSize:], uint64(8+8+8+6+3))
	}
	f.Add([]byte(`{"a":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2]}}`), uint64(2))
	f.Add([]byte(`{"__metadata__":{"a":"b"},"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}} `), uint64(8))
	f.Fuzz(func(t *testing.T, header []byte, size uint64) {
		all, err := Parse(header, size)
		if err != nil {
			return
		}
		at := uint64(0)
		for _, x := range all {
			n, err := tensor.Bytes(x.DType, x.Shape)
			require.NoError(t, err)
			require.Equal(t, at, x.Begin)
			require.Equal(t, n, x.End-x.Begin)
			at = x.End
		}
		require.Equal(t, size, at)
		again, err := Arrange(append([]Tensor(nil), all...))
		require.NoError(t, err)
		back, err := Parse(again[LengthSize:], size)
		require.NoError(t, err)
		require.Len(t, back, len(all))
	})
}
