#!/usr/bin/env bash
# mutate.sh [TEXT]: takes each mechanism out, one at a time, and runs the test that must fail without it; ends with what was
# detected of each promise, and fails when something was not. TEXT chooses those whose promise, mechanism, test or place
# (python, library, standin, a Go package) contains it.
#
# The rows of Python need numpy and pytest: of $PYTHON if it is set, else of a test venv that is there already. Without
# one they are named as skipped.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"

# test_python: prints the python of a test venv that was made before, if there is one.
test_python() {
	local base path
	base=$(find_python 2>/dev/null) || return 0
	for path in \
		"$(venv_path test "$base" "$(pins test "$base")" "$(pins torch "$base")")" \
		"$(venv_path test-quick "$base" "$(pins test "$base")")"; do
		[ -e "$path/.complete" ] || continue
		printf '%s\n' "$path/bin/python"
		return
	done
}

need_go
need_cc
PYTHON=${PYTHON:-$(test_python)}
export PYTHON
cd "$REPO"
exec go run ./tests/mutations -only "${1:-}"
