#!/usr/bin/env bash
# Figures, not tests. Without arguments: Go, C, then Python; with arguments only `moorage bench` with those.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

bench_go() {
	say 'Go benchmarks'
	MOORAGE_BENCH=1 go test -run '^$' -bench . -benchmem -timeout 60m ./core/... ./capi/...
}

# bench_programs PYTHON: what tests/bench has beyond Go and Python.
bench_programs() {
	local scratch=$BUILD/tests/bench
	[ -e tests/bench/run.sh ] || return 0
	say 'C benchmarks'
	mkdir -p "$scratch"
	MOOR_BUILD=$BUILD MOOR_PREFIX=$BUILD/prefix MOOR_SITE=$BUILD/site MOOR_TMP=$scratch PYTHON=$1 \
		bash tests/bench/run.sh
}

main() {
	local python plots
	cd "$REPO"
	build_all
	python=$(test_venv full)
	if [ $# -eq 0 ]; then
		bench_go
		bench_programs "$python"
		say 'Python benchmarks'
	fi
	plots=$(plot_folder "$python") || plots=
	PYTHONPATH=$BUILD/site${plots:+:$plots} "$python" -m moorage bench "$@"
}

main "$@"
