#!/usr/bin/env bash
# The C benchmarks, against the installed prefix. Prints lines as `go test -bench` does.
# MOORAGE_BENCH_OBJECTS is how many objects the fork is measured with (default ten million).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The floor: a library with one empty function in Go.
(cd "$here/crossing" && go build -buildmode=c-shared -o "$MOOR_TMP/libcrossing.so" .)

compile() {
	"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Werror -I "$MOOR_PREFIX/include" "$here/$1.c" -o "$MOOR_TMP/$1" \
		-L "$MOOR_PREFIX/lib" -L "$MOOR_TMP" "-Wl,-rpath,$MOOR_PREFIX/lib" "-Wl,-rpath,$MOOR_TMP" "${@:2}" -lmoorage
}

compile get -lcrossing
compile fork
"$MOOR_TMP/get"
"$MOOR_TMP/fork" "${MOORAGE_BENCH_OBJECTS:-10000000}"
