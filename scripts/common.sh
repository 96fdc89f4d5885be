# shellcheck shell=bash
# What every script here shares: where things lie, how a missing tool is reported, and which Python is used.
# Sourced, never run. Sets REPO, BUILD, DIST and CACHE.

set -euo pipefail
shopt -s inherit_errexit

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by who sources this
BUILD=$REPO/build
# shellcheck disable=SC2034
DIST=$REPO/dist
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/moorage

# pip keeps what it downloaded beside the venvs, so that all we leave on a machine lies in one folder.
export PIP_CACHE_DIR=$CACHE/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'build.sh: %s\n' "$*" >&2; }

die() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}

# need TOOL PACKAGE: stops with the name of the package when a tool is not there.
need() {
	command -v "$1" >/dev/null 2>&1 ||
		die "'$1' was not found; install it, on Debian or Ubuntu with: apt-get install $2"
}

# need_go: Go itself, at least the version that go.mod names (Go fetches a newer one of its own if it may).
need_go() {
	need go golang
	local want have
	want=$(sed -n 's/^go //p' "$REPO/go.mod")
	have=$(cd "$REPO" && go env GOVERSION 2>/dev/null) || die "go.mod asks for Go $want, and this Go cannot provide it"
	have=${have#go}
	[ "$(printf '%s\n' "$want" "${have%% *}" | sort -V | head -n 1)" = "$want" ] ||
		die "Go $want or newer is needed, found $have; a current one is on the Go web site"
}

need_cc() {
	need "${CC:-cc}" gcc
	printf '#include <stdint.h>\n' | "${CC:-cc}" -xc -fsyntax-only - 2>/dev/null ||
		die "the C compiler finds no C library headers; on Debian or Ubuntu: apt-get install libc6-dev"
}

# usable_python PYTHON: is this a Python that the package is for?
usable_python() {
	"$1" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1
}

# find_python: prints the first Python that is new enough; $MOORAGE_PYTHON is the only one asked if it is set.
find_python() {
	local candidate candidates=(python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.14 /usr/bin/python3)
	[ -z "${MOORAGE_PYTHON:-}" ] || candidates=("$MOORAGE_PYTHON")
	for candidate in "${candidates[@]}"; do
		usable_python "$candidate" || continue
		"$candidate" -c 'import sys; print(sys.executable)'
		return
	done
	[ -z "${MOORAGE_PYTHON:-}" ] || die "MOORAGE_PYTHON=$MOORAGE_PYTHON is not a Python 3.9 or newer"
	die "Python 3.9 or newer was not found (MOORAGE_PYTHON=/path/to/python names one); on Debian or Ubuntu: apt-get install python3 python3-venv"
}

# seconds SINCE: whole seconds since a $SECONDS taken before.
seconds() { printf '%ss' "$((SECONDS - $1))"; }
