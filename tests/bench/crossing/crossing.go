// Package main is the floor of the C benchmarks: the least that a call from C to Go costs.
package main

import "C"

//export crossing
func crossing() {}

func main() {}
