#!/usr/bin/env bash
# build_library.sh OUT: builds libmoorage.so from the sources beside this script. Needs Go and a C compiler, nothing
# else; the wheel's build hook and the source distribution call it too.
#
# What the flags are for: the version script leaves only moor_* visible, glibc_floor.h and the two old libraries keep
# the result loadable on glibc 2.17 (capi/floor.c for what Go asks for), and so do the tags, by which Go looks up names of
# hosts and users itself; the soname carries the ABI's major number. Go's build id would tell one folder from another; with
# the linker's, the same sources and tools give the same bytes.
set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
soname=libmoorage.so.1

# Go's build cache does not look into files that are only named in flags. Copies under a name made from their
# content make it build again when they change, and only then.
place_link_inputs() {
	local folder=$1 inputs=("$source_root/capi/moorage.map" "$source_root/capi/glibc_floor.h")
	local placed
	placed=$folder/link/$(cat "${inputs[@]}" | sha256sum | cut -c1-16)
	mkdir -p "$placed"
	cp "${inputs[@]}" "$placed"
	printf '%s\n' "$placed"
}

build() {
	local out=$1 work placed c_flags old_libraries wrapped link_flags
	mkdir -p "$(dirname "$out")"
	out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
	work=${MOORAGE_BUILD_FOLDER:-$(dirname "$out")}
	placed=$(place_link_inputs "$work")

	c_flags="-O2 -g0 -fvisibility=hidden -include '$placed/glibc_floor.h'"
	old_libraries='-Wl,--no-as-needed -l:libpthread.so.0 -l:libdl.so.2 -Wl,--as-needed'
	wrapped='-Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlerror,--wrap=dlclose'
	link_flags="\"-Wl,--version-script=$placed/moorage.map\" -Wl,-soname,$soname $wrapped -Wl,-z,now -Wl,--build-id=sha1"

	cd "$source_root"
	CGO_ENABLED=1 CGO_CFLAGS="${CGO_CFLAGS:-} $c_flags" CGO_LDFLAGS="${CGO_LDFLAGS:-} $old_libraries" \
		go build -trimpath -buildvcs=false -buildmode=c-shared -tags netgo,osusergo \
		-ldflags "-s -w -buildid= -B none '-extldflags=$link_flags'" -o "$out" ./capi
	# Go writes a header of its own beside the library; the public one is include/moorage.h.
	rm -f "${out%.so}.h"
}

[ $# -eq 1 ] || {
	echo "usage: build_library.sh OUT" >&2
	exit 2
}
build "$1"
