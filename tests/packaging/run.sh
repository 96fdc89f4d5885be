#!/usr/bin/env bash
# A C and a C++ program against the installed prefix, by pkg-config and by CMake, plain and under AddressSanitizer. The
# prefix is moved first: nothing in it may remember where it was made.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=$MOOR_TMP/moved\ prefix
strict=(-Wall -Wextra -Wpedantic -Werror -g)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../../python/pyproject.toml")
CC=${CC:-cc} CXX=${CXX:-c++}

# runs PROGRAM: it works, and reports the version that the package has.
runs() {
	local said
	said=$(LD_LIBRARY_PATH="$prefix/lib" timeout 60 "$1")
	[ "$said" = "$version" ] || {
		echo "$1: the library says version '$said', pyproject.toml says '$version'"
		return 1
	}
	echo "ok    $(basename "$1")"
}

# compile OUT FLAGS...: the consumer as C and as C++, as OUT_c and OUT_cpp.
compile() {
	local out=$MOOR_TMP/$1
	shift
	"$CC" -std=c99 "${strict[@]}" "$here/consumer/consumer.c" -o "${out}_c" "$@"
	"$CXX" -std=c++17 "${strict[@]}" -x c++ "$here/consumer/consumer.c" -x none -o "${out}_cpp" "$@"
	runs "${out}_c"
	runs "${out}_cpp"
}

by_pkg_config() {
	if ! command -v pkg-config >/dev/null 2>&1; then
		echo 'skip: pkg-config was not found (apt-get install pkg-config)'
		return
	fi
	export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
	[ "$(pkg-config --modversion moorage)" = "$version" ]
	local flags
	# pkg-config escapes spaces for a shell to read.
	eval "flags=($(pkg-config --cflags --libs moorage))"
	compile by_pkg_config "${flags[@]}"

	if "$CC" -fsanitize=address -xc - -o "$MOOR_TMP/probe" <<<'int main(void){return 0;}' 2>/dev/null && "$MOOR_TMP/probe"; then
		compile sanitized -fsanitize=address -fno-omit-frame-pointer "${flags[@]}"
	else
		echo "skip: $CC cannot build or run with -fsanitize=address"
	fi
}

by_cmake() {
	local build=$MOOR_TMP/cmake
	if ! command -v cmake >/dev/null 2>&1; then
		echo 'skip: cmake was not found (apt-get install cmake)'
		return
	fi
	cmake -S "$here/consumer" -B "$build" -DCMAKE_PREFIX_PATH="$prefix" -DWANTED_VERSION="$version"
	cmake --build "$build"
	runs "$build/consumer_c"
	runs "$build/consumer_cpp"
	if cmake -S "$here/consumer" -B "$build.newer" -DCMAKE_PREFIX_PATH="$prefix" -DWANTED_VERSION=999 >/dev/null 2>&1; then
		echo 'find_package is content with a version that is too old'
		return 1
	fi
}

# A second install over the first, and nothing in the text files that names a place on this machine.
prefix_is_movable() {
	local named
	cp -a "$MOOR_PREFIX" "$prefix"
	[ "$(readlink "$prefix/lib/libmoorage.so")" = libmoorage.so.1 ]
	if named=$(grep -rIl -e "$MOOR_PREFIX" -e "$MOOR_BUILD" "$prefix"); then
		echo "names the place where it was made: $named"
		return 1
	fi
}

prefix_is_movable
by_pkg_config
by_cmake
