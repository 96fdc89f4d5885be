#!/usr/bin/env bash
# The training job for MOORAGE_SOAK_MINUTES; a few seconds of it without.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${MOORAGE_SOAK_MINUTES:-}" ]; then
	seconds=$((MOORAGE_SOAK_MINUTES * 60))
else
	seconds=12
fi
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
	echo 'skip: probed torch: not in this environment'
	exit 77
fi
PYTHONPATH=$MOOR_SITE "$PYTHON" "$here/training.py" "$seconds"
