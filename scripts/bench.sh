#!/usr/bin/env bash
# Figures, not tests. Without arguments: Go, C, then Python; with arguments only `moorage bench` with those. With
# --peers among them, what it compares with is fetched first.

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

# The system's libraries that Mooncake's wheel is linked with, and their packages on Debian and Ubuntu.
PEER_LIBRARIES=(libibverbs.so.1=libibverbs1 libnuma.so.1=libnuma1 libcurl.so.4=libcurl4)

# peer_libraries PYTHON: installs those that are missing if we may, else says which.
peer_libraries() {
	local one packages=()
	for one in "${PEER_LIBRARIES[@]}"; do
		"$1" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "${one%=*}" 2>/dev/null || packages+=("${one#*=}")
	done
	[ ${#packages[@]} -ne 0 ] || return 0
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		say "Mooncake cannot be measured without: apt-get install ${packages[*]}"
		return 0
	fi
	say "installing ${packages[*]}, which Mooncake's wheel needs"
	{
		apt-get install -y --no-install-recommends "${packages[@]}" ||
			{ apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; }
	} >/dev/null || say "they could not be installed: Mooncake will not be measured"
}

# wanted WORD ARGS...: is the word among the arguments?
wanted() {
	local word=$1 one
	shift
	for one in "$@"; do
		[ "$one" != "$word" ] || return 0
	done
	return 1
}

main() {
	local python plots peers=
	cd "$REPO"
	build_all
	python=$(test_venv full)
	plots=$(plot_folder "$python") || plots=
	if wanted --peers "$@"; then
		peers=$(peers_folder "$python") || say 'the peers are those that the test venv has'
		peer_libraries "$python"
	fi
	export PYTHONPYCACHEPREFIX=$BUILD/pycache PYTHONPATH=$BUILD/site${plots:+:$plots}${peers:+:$peers}
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
