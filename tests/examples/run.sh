#!/usr/bin/env bash
# The C and C++ examples as a user builds them, against the installed prefix: by pkg-config and make, by CMake; and the C program
# that stands in README.md. Each runs alone and on a safetensors file.
set -euo pipefail
shopt -s inherit_errexit

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
file=$MOOR_TMP/model.safetensors
export LD_LIBRARY_PATH=$MOOR_PREFIX/lib PKG_CONFIG_PATH=$MOOR_PREFIX/lib/pkgconfig

# says TEXT COMMAND...: the command succeeds and prints the text.
says() {
	local wanted=$1 said
	shift
	said=$(timeout 60 "$@")
	[[ $said == *"$wanted"* ]] || {
		printf '%s does not say "%s":\n%s\n' "$1" "$wanted" "$said"
		return 1
	}
	printf 'ok    %s\n' "${*##*/}"
}

make_file() {
	PYTHONPATH=$MOOR_SITE "$PYTHON" - "$file" <<-'EOF'
		import sys
		import moorage, numpy as np

		store = moorage.Store("1MiB")
		store.put_tensor("one", np.ones((4, 8), np.float32))
		store.put_tensor("two", np.full(16, 2.0, np.float32))
		store.export_safetensors(sys.argv[1], ["one", "two"])
	EOF
}

by_make() {
	local place=$MOOR_TMP/c
	if ! command -v pkg-config >/dev/null || ! command -v make >/dev/null; then
		echo 'skip: make or pkg-config was not found (apt-get install make pkg-config)'
		return
	fi
	cp -r "$repo/examples/c" "$place"
	make -s -C "$place" CFLAGS='-std=c99 -Wall -Wextra -Wpedantic -Werror -O2'
	says 'after remove and close' "$place/example"
	says 'one has 32 elements, their sum is 32.000' "$place/example" "$file"
}

by_cmake() {
	local build=$MOOR_TMP/cpp
	if ! command -v cmake >/dev/null; then
		echo 'skip: cmake was not found (apt-get install cmake)'
		return
	fi
	cmake -S "$repo/examples/cpp" -B "$build" -DCMAKE_PREFIX_PATH="$MOOR_PREFIX" -DCMAKE_CXX_FLAGS=-Werror
	cmake --build "$build"
	says 'ramp: sum 130816.0' "$build/example"
	says 'imported 2 tensors' "$build/example" "$file"
}

of_readme() {
	local program=$MOOR_TMP/readme
	# shellcheck disable=SC2016 # a pattern
	sed -n '/^```c$/,/^```$/{/^```/d;p}' "$repo/README.md" >"$program.c"
	[ -s "$program.c" ]
	"${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -I "$MOOR_PREFIX/include" "$program.c" -o "$program" \
		-L "$MOOR_PREFIX/lib" -lmoorage
	says ahoy "$program"
}

make_file
by_make
by_cmake
of_readme
