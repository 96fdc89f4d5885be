package safetensors

import "moorage/core/tensor"

// packed4 is the name of the dtype with two elements to a byte. The format counts elements, a store counts pairs.
const packed4 = "F4"

// fromName has the dtypes of the format; toName the way back.
var (
	fromName = map[string]tensor.DType{}
	toName   = map[tensor.DType]string{}
)

func init() {
	for name, d := range map[string]string{
		"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
		"U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
		"C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
		packed4: "float4_e2m1fn_x2",
	} {
		dt, err := tensor.ParseDType(d)
		if err != nil {
			panic(err) // a name above is misspelt: no test of this package could pass
		}
		fromName[name], toName[dt] = dt, name
	}
}
