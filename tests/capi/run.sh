#!/usr/bin/env bash
# The plain C of the library over a stand-in for Go, under the sanitizers; then C and C++ programs against the library.
# MOORAGE_HAMMER_SECONDS and MOORAGE_FUZZ_SECONDS make the hammers and the fuzzer run longer.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cc=${CC:-cc} cxx=${CXX:-c++}
work=${MOOR_TMP:-$(mktemp -d)}
seconds=${MOORAGE_HAMMER_SECONDS:-3}
warnings=(-Wall -Wextra -Werror -g)
inner=(-std=gnu11 -fvisibility=hidden "-I$root/include" "-I$root/capi" "-I$here")
export MOOR_TMP=$work

# All C files of the library but those that need Python.
plain_c() {
	local file
	for file in "$root"/capi/*.c; do
		[[ $(basename "$file") == py*.c ]] || printf '%s\n' "$file"
	done
}
mapfile -t sources < <(plain_c)

# over_standin NAME SUFFIX FLAGS...: builds NAME.c with the stand-in and the library's C.
over_standin() {
	local name=$1 out=$work/$1$2
	shift 2
	"$cc" "${inner[@]}" "${warnings[@]}" "$@" "$here/$name.c" "$here/standin.c" "${sources[@]}" -o "$out" -lpthread -ldl
}

has_sanitizer() {
	printf 'int main(void) { return 0; }\n' >"$work/probe.c"
	"$cc" "-fsanitize=$1" "$work/probe.c" -o "$work/probe" 2>/dev/null && "$work/probe" 2>/dev/null
}

traces() {
	"$cc" "${inner[@]}" "${warnings[@]}" -O2 "$here/trace/trace_c.c" -o "$work/trace_c" -lpthread
	local trace
	for trace in "$here"/trace/*.trace; do
		diff "${trace%.trace}.expected" <("$work/trace_c" <"$trace")
		echo "ok trace $(basename "$trace")"
	done
}

alone() {
	over_standin hammer "" -O2
	over_standin fork "" -O2
	over_standin copy "" -O2
	over_standin memory "" -O2 -Wl,--wrap=malloc,--wrap=calloc,--wrap=free,--wrap=posix_memalign,--wrap=mmap,--wrap=pthread_create
	"$work/memory"
	"$work/hammer" "$seconds" 4
	"$work/hammer" "$seconds" 3 fork
	(ulimit -n 1024 && "$work/fork")
	"$work/copy"
	# The test has handlers of its own, which must not lie in the same object as the library.
	"$cc" -std=gnu11 "-I$root/include" "-I$root/capi" "${warnings[@]}" -O2 -fPIC -shared "$here/standin.c" "${sources[@]}" \
		-o "$work/libstandin.so" -lpthread -ldl
	"$cc" "${inner[@]}" "${warnings[@]}" "$here/fault.c" -o "$work/fault" "-L$work" -lstandin "-Wl,-rpath,$work"
	"$work/fault"
}

sanitized() {
	if has_sanitizer thread; then
		over_standin hammer _thread -O1 -fsanitize=thread
		over_standin copy _thread -O1 -fsanitize=thread
		TSAN_OPTIONS=halt_on_error=1 "$work/hammer_thread" "$seconds" 4
		TSAN_OPTIONS=halt_on_error=1 "$work/copy_thread"
	else
		echo "skip: ThreadSanitizer (probed for: a program built with -fsanitize=thread runs)"
	fi
	if has_sanitizer address,undefined; then
		over_standin hammer _address -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
		over_standin fork _address -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
		"$work/hammer_address" "$seconds" 3 fork
		(ulimit -n 1024 && "$work/fork_address")
	else
		echo "skip: AddressSanitizer (probed for: a program built with -fsanitize=address,undefined runs)"
	fi
}

# A library with network devices, which no machine of ours has.
stand_in_for_verbs() {
	local own=()
	echo '#include <infiniband/verbs.h>' | "$cc" -xc -fsyntax-only - 2>/dev/null || own=(-DOWN_LAYOUT)
	export MOORAGE_LIBIBVERBS=$work/libibverbs.so.1
	"$cc" -std=gnu11 "${warnings[@]}" "${own[@]}" -fPIC -shared "$root/rdma/internal/ibv/testdata/fakeverbs.c" \
		-o "$MOORAGE_LIBIBVERBS" -lpthread
}

# against_library SUFFIX FLAGS...: builds and runs the programs that use the real library.
against_library() {
	local suffix=$1
	shift
	local link=("-I$MOOR_BUILD/include" "-L$MOOR_BUILD" -lmoorage "-Wl,-rpath,$MOOR_BUILD" -lpthread -ldl)
	local program
	stand_in_for_verbs
	for program in calls errors counted jobs fuzz; do
		"$cc" -std=gnu11 "${warnings[@]}" "$@" "$here/$program.c" -o "$work/$program$suffix" "${link[@]}"
		"$work/$program$suffix"
	done
	"$cxx" -std=c++17 -Wpedantic "${warnings[@]}" "$@" "$here/cpp.cpp" -o "$work/cpp$suffix" "${link[@]}"
	"$work/cpp$suffix"
}

# Without AddressSanitizer, which has a handler of its own for faults.
faults_and_forks_of_library() {
	local link=("-I$MOOR_BUILD/include" "-L$MOOR_BUILD" -lmoorage "-Wl,-rpath,$MOOR_BUILD" -lpthread)
	"$cc" -std=gnu11 "${warnings[@]}" "$here/fault.c" -o "$work/fault_library" "${link[@]}"
	"$work/fault_library"
	"$cc" -std=gnu11 "${warnings[@]}" -O1 "$here/fork_library.c" -o "$work/fork_library" "${link[@]}"
	"$work/fork_library"
}

traces
alone
sanitized
if [ -n "${MOOR_BUILD:-}" ] && [ -f "$MOOR_BUILD/libmoorage.so" ]; then
	against_library ""
	faults_and_forks_of_library
	if has_sanitizer address,undefined; then
		against_library _address -fsanitize=address,undefined -fno-sanitize-recover=undefined
	fi
else
	echo "skip: programs against the library (MOOR_BUILD has no libmoorage.so)"
fi
