// Package safetensors reads and writes the headers of safetensors files.
package safetensors
