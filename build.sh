#!/usr/bin/env bash
# The one door to building, testing and packing Moorage. `./build.sh help` lists what it can do.
# Writes to build/, dist/ and ${XDG_CACHE_HOME:-~/.cache}/moorage, and lets Go and pip use their own caches.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/scripts/common.sh"
# shellcheck source=scripts/venv.sh
. "$here/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$here/scripts/package.sh"

usage() {
	cat <<'TEXT'
usage: ./build.sh COMMAND

  demo             a real model through a store, checked bit by bit (makes a venv, fetches 91 MB once)
  test [--quick]   every test of every language; --quick leaves out torch (a venv of 5.4 GB)
  build            library, wheel and prefix, in build/
  lint             gofmt, vet, staticcheck, ruff, mypy, shellcheck
  bench [ARGS]     Go and C benchmarks, then `moorage bench`; with ARGS only `moorage bench ARGS`
                   (--peers: beside a dict, safetensors, LMDB, Redis, Mooncake, ...; fetches 330 MB once)
  soak [MINUTES]   the long runs that the tests leave out (default 10)
  install PREFIX   header, library, pkg-config and CMake files
  release          wheel, source distribution and checksums, in dist/
  clean            removes build/ and dist/; the cache stays (--cache removes that too)

MOORAGE_PYTHON names the Python to make venvs with, CC the C compiler.
RDMA_REQUIRED=1 has root install what the tests with an RDMA device need: a virtual machine.
TEXT
}

clean() {
	rm -rf "$BUILD" "$DIST"
	if [ "${1:-}" = --cache ]; then
		rm -rf "$CACHE"
	fi
}

main() {
	local command=${1:-help}
	[ $# -eq 0 ] || shift
	case $command in
	build) build_all ;;
	demo | test | lint | bench | soak) exec bash "$REPO/scripts/$command.sh" "$@" ;;
	install)
		[ $# -eq 1 ] || die "usage: ./build.sh install PREFIX"
		build_library
		install_prefix "$1"
		;;
	release) release ;;
	clean) clean "$@" ;;
	help | -h | --help) usage ;;
	*)
		usage >&2
		exit 2
		;;
	esac
}

main "$@"
