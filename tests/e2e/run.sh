#!/usr/bin/env bash
# What users would run, on a real model: the demo's weights, fetched once.
set -euo pipefail
shopt -s inherit_errexit

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/common.sh
. "$repo/scripts/common.sh"
# shellcheck source=scripts/venv.sh
. "$repo/scripts/venv.sh"

if ! "$PYTHON" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("transformers") is None)'; then
	echo 'skip: probed transformers: not installed (./build.sh test has it)'
	exit 77
fi
model=$(model_folder "$PYTHON")
MOORAGE_MODEL=$model PYTHONPATH=$MOOR_SITE HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$PYTHON" -m pytest \
	-c "$repo/python/pyproject.toml" --rootdir "$repo" -p no:cacheprovider "$repo/tests/e2e"
