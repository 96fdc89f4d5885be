#!/usr/bin/env bash
# The header: alone, strict, in C and C++; beside DLPack's own; and in agreement with whatever repeats it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
include=${MOOR_BUILD:+$MOOR_BUILD/include}
[ -n "$include" ] && [ -f "$include/moorage.h" ] || include=$root/include
library=${MOOR_BUILD:+$MOOR_BUILD/libmoorage.so}
cc=${CC:-cc} cxx=${CXX:-c++} python=${PYTHON:-python3}
work=${MOOR_TMP:-$(mktemp -d)}
strict=(-Wall -Wextra -Wpedantic -Wconversion -Werror "-I$include" -fsyntax-only)

alone() {
	printf '#include "moorage.h"\n' >"$work/alone.c"
	for standard in c99 c11 c17; do
		"$cc" "-std=$standard" "${strict[@]}" "$work/alone.c"
	done
	for standard in c++17 c++20; do
		"$cxx" -x c++ "-std=$standard" "${strict[@]}" "$work/alone.c"
	done
	if [ -f "$include/moorage.hpp" ]; then
		printf '#include "moorage.hpp"\n' >"$work/alone.cpp"
		for standard in c++17 c++20; do
			"$cxx" "-std=$standard" "${strict[@]}" "$work/alone.cpp"
		done
	fi
	echo "ok alone, as C99 to C17 and C++17, C++20"
}

# dlpack.h comes with torch and with numpy's and others' sources; DLPACK_INCLUDE names a folder that has dlpack/dlpack.h.
dlpack_folder() {
	local folder
	for folder in "${DLPACK_INCLUDE:-}" \
		"$("$python" -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] + "/include/ATen" if s else "")' 2>/dev/null)" \
		/usr/include /usr/local/include; do
		for name in dlpack/dlpack.h dlpack.h; do
			if [ -n "$folder" ] && [ -f "$folder/$name" ]; then
				printf '%s\n' "$folder/$name"
				return
			fi
		done
	done
}

beside_dlpack() {
	local dlpack
	dlpack=$(dlpack_folder)
	if [ -z "$dlpack" ]; then
		echo "skip: no dlpack.h found (looked in DLPACK_INCLUDE, torch, /usr/include, /usr/local/include)"
		return
	fi
	printf '#include "%s"\n#include "moorage.h"\nDLManagedTensorVersioned *t; DLTensor u; moor_buffer b;\n' "$dlpack" >"$work/before.c"
	printf '#include "moorage.h"\n#include "%s"\nDLManagedTensorVersioned *t; DLTensor u; moor_buffer b;\n' "$dlpack" >"$work/after.c"
	for order in before after; do
		"$cc" -std=c11 -Wall -Wextra -Werror "-I$include" -fsyntax-only "$work/$order.c"
		"$cxx" -x c++ -std=c++17 -Wall -Wextra -Werror "-I$include" -fsyntax-only "$work/$order.c"
	done
	echo "ok beside $dlpack, before and after it"
	same_as_dlpack "$dlpack"
}

# Both declarations give the same sizes and places.
same_as_dlpack() {
	"$cc" -std=c11 "-I$include" "$here/offsets.c" -o "$work/offsets"
	"$cc" -std=c11 "-I$include" -include "$1" "$here/offsets.c" -o "$work/offsets_dlpack"
	diff <("$work/offsets") <("$work/offsets_dlpack")
	echo "ok the same sizes and places as DLPack's own"
}

agreement() {
	"$cc" -std=c11 -Wall -Wextra -Werror "-I$include" "$here/offsets.c" -o "$work/offsets"
	"$work/offsets" >"$work/offsets.json"
	if [ -n "$library" ] && [ -f "$library" ]; then
		"$python" "$here/complete.py" "$include/moorage.h" "$root/capi/moorage.map" "$work/offsets.json" "$library"
	else
		echo "skip: no library to compare with (MOOR_BUILD is not set)"
		"$python" "$here/complete.py" "$include/moorage.h" "$root/capi/moorage.map" "$work/offsets.json"
	fi
}

alone
beside_dlpack
agreement
