#!/usr/bin/env bash
# mutate.sh [TEXT]: takes each mechanism out, one at a time, and runs the test that must fail without it. TEXT chooses those
# whose mechanism or test contains it.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_go
need_cc
cd "$REPO"
exec go run ./tests/mutations -only "${1:-}"
