#!/usr/bin/env bash
# Figures, not tests. Without arguments: Go, C, then Python; with arguments only `moorage bench` with those.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

# The figures of Go and C go into files too: `moorage bench` puts them beside its own.
FIGURES=$BUILD/bench

bench_go() {
	say 'Go benchmarks'
	MOORAGE_BENCH=1 go test -run '^$' -bench . -benchmem -timeout 60m ./core/... ./capi/... | tee "$FIGURES/go.txt"
}

# bench_programs PYTHON: what tests/bench has beyond Go and Python.
bench_programs() {
	local scratch=$BUILD/tests/bench
	: >"$FIGURES/c.txt"
	[ -e tests/bench/run.sh ] || return 0
	say 'C benchmarks'
	rm -rf "$scratch"
	mkdir -p "$scratch"
	MOOR_BUILD=$BUILD MOOR_PREFIX=$BUILD/prefix MOOR_SITE=$BUILD/site MOOR_TMP=$scratch PYTHON=$1 \
		bash tests/bench/run.sh | tee "$FIGURES/c.txt"
}

main() {
	local python plots
	cd "$REPO"
	build_all
	python=$(test_venv full)
	plots=$(plot_folder "$python") || plots=
	export PYTHONPYCACHEPREFIX=$BUILD/pycache PYTHONPATH=$BUILD/site${plots:+:$plots}
	mkdir -p "$FIGURES"
	if [ $# -eq 0 ]; then
		bench_go
		bench_programs "$python"
		say "Python benchmarks (figures and picture in ${FIGURES#"$REPO/"}/)"
		set -- --figures "$FIGURES/go.txt" --figures "$FIGURES/c.txt" --json "$FIGURES/bench.json" --plot "$FIGURES/bench.png"
	fi
	"$python" -m moorage bench "$@"
}

main "$@"
