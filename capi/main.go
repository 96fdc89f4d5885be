// Package main is libmoorage: the C ABI of include/moorage.h over package core.
//
// The public functions are C (entry*.c): they look at the fork flag and at the arguments, then call the exports of
// this package (exports.h). An export turns C's values into Go's, calls core, and turns the answer back. What is handed out is
// released in C alone (release.c, view.c).
//
// No panic leaves an export: each ends in guard, which makes one a MOOR_ERR_INTERNAL.
package main

// #cgo CFLAGS: -I${SRCDIR}/../include -std=gnu11 -O2 -Wall -Wextra -Wno-unused-parameter -fvisibility=hidden
// #cgo LDFLAGS: -ldl -lpthread
// #include "exports.h"
import "C"

func main() {}
