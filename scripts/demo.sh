#!/usr/bin/env bash
# The demo: library and wheel are built, a venv is made, a real model is fetched once, and demo/demo.py shows the rest.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

# demo_python: the test venv when it is there already, for the sake of its torch; else a small one of its own.
demo_python() {
	local base venv
	base=$(find_python)
	venv=$(venv_path test "$base" "$(pins test "$base")" "$(pins torch "$base")")
	if [ -e "$venv/.complete" ]; then
		printf '%s/bin/python\n' "$venv"
	else
		demo_venv
	fi
}

main() {
	local python model site=$BUILD/demo
	build_library
	build_wheel
	python=$(demo_python)
	model=$(model_folder "$python")
	rm -rf "$site"
	"$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$site" "$(wheel_file)"
	PYTHONPATH=$site PYTHONPYCACHEPREFIX=$BUILD/pycache "$python" "$REPO/demo/demo.py" "$model"
}

main
