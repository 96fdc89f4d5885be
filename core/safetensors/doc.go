// Package safetensors reads and writes the headers of safetensors files.
//
// A file is 8 bytes with the little-endian length of the header, the header, and the data. The header is a JSON
// object: for each tensor its dtype, shape and the range of its bytes, counted from the start of the data; under
// "__metadata__" a flat map of strings. The format is described at https://github.com/huggingface/safetensors.
//
// A header is hostile until it is proven good: Parse accepts one only if the ranges tile the data without a gap or an
// overlap and each is as long as dtype and shape say. What it returns can be read into memory as it is. Functions of this
// package are pure and safe for concurrent use.
package safetensors
