package tensor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dtypes is every type that is taken, with the numbers as dlpack.h has them.
var dtypes = []struct {
	name  string
	dtype DType
	size  uint64
}{
	{"int8", DType{0, 8, 1}, 1},
	{"int16", DType{0, 16, 1}, 2},
	{"int32", DType{0, 32, 1}, 4},
	{"int64", DType{0, 64, 1}, 8},
	{"uint8", DType{1, 8, 1}, 1},
	{"uint16", DType{1, 16, 1}, 2},
	{"uint32", DType{1, 32, 1}, 4},
	{"uint64", DType{1, 64, 1}, 8},
	{"float16", DType{2, 16, 1}, 2},
	{"float32", DType{2, 32, 1}, 4},
	{"float64", DType{2, 64, 1}, 8},
	{"bfloat16", DType{4, 16, 1}, 2},
	{"complex32", DType{5, 32, 1}, 4},
	{"complex64", DType{5, 64, 1}, 8},
	{"complex128", DType{5, 128, 1}, 16},
	{"bool", DType{6, 8, 1}, 1},
	{"float8_e3m4", DType{7, 8, 1}, 1},
	{"float8_e4m3", DType{8, 8, 1}, 1},
	{"float8_e4m3b11fnuz", DType{9, 8, 1}, 1},
	{"float8_e4m3fn", DType{10, 8, 1}, 1},
	{"float8_e4m3fnuz", DType{11, 8, 1}, 1},
	{"float8_e5m2", DType{12, 8, 1}, 1},
	{"float8_e5m2fnuz", DType{13, 8, 1}, 1},
	{"float8_e8m0fnu", DType{14, 8, 1}, 1},
	{"float4_e2m1fn", DType{17, 4, 1}, 0},
	{"float4_e2m1fn_x2", DType{17, 4, 2}, 1},
}

func dtype(tb testing.TB, name string) DType {
	tb.Helper()
	dt, err := ParseDType(name)
	require.NoError(tb, err)
	return dt
}

func TestDTypeNamesAndSizes(t *testing.T) {
	for _, c := range dtypes {
		assert.NoError(t, c.dtype.Valid(), c.name)
		assert.Equal(t, c.name, c.dtype.String())
		assert.Equal(t, c.size, c.dtype.Size(), c.name)
		got, err := ParseDType(c.name)
		assert.NoError(t, err)
		assert.Equal(t, c.dtype, got)
	}
}

func TestDTypeTakesNothingElse(t *testing.T) {
	taken := map[DType]bool{}
	for _, c := range dtypes {
		taken[c.dtype] = true
	}
	for code := range 256 {
		for bits := range 256 {
			for _, lanes := range []uint16{0, 1, 2, 3, 4, 65535} {
				d := DType{uint8(code), uint8(bits), lanes}
				if d.valid() != taken[d] {
					t.Errorf("%#v: valid is %v", d, d.valid())
				}
				if !taken[d] && d.Size() != 0 {
					t.Errorf("%#v has size %d", d, d.Size())
				}
			}
		}
	}
}

func TestDTypeErrors(t *testing.T) {
	for _, c := range []struct {
		dtype DType
		text  string
	}{
		{DType{}, "unsupported dtype: none given"},
		{DType{0, 4, 1}, "unsupported dtype: int (code 0, bits 4, lanes 1)"},
		{DType{2, 32, 4}, "unsupported dtype: float (code 2, bits 32, lanes 4)"},
		{DType{2, 128, 1}, "unsupported dtype: float (code 2, bits 128, lanes 1)"},
		{DType{3, 64, 1}, "unsupported dtype: opaque handle (code 3, bits 64, lanes 1)"},
		{DType{15, 6, 1}, "unsupported dtype: float6_e2m3fn (code 15, bits 6, lanes 1)"},
		{DType{200, 8, 1}, "unsupported dtype: unknown (code 200, bits 8, lanes 1)"},
	} {
		err := c.dtype.Valid()
		assert.ErrorIs(t, err, ErrDType)
		assert.EqualError(t, err, c.text)
	}
	for _, name := range []string{"", "none", "float", "float8", "int128", "Float32", "bool8", "float6_e2m3fn", "float4_e2m1fn_x3", "int8 "} {
		_, err := ParseDType(name)
		assert.ErrorIs(t, err, ErrDType, name)
	}
}

func TestDTypeZeroIsNone(t *testing.T) {
	assert.True(t, DType{}.None())
	assert.Equal(t, "none", DType{}.String())
	assert.False(t, dtype(t, "int8").None())
}
