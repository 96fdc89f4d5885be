#!/usr/bin/env bash
# soak.sh [MINUTES]: what is too long for the tests. MINUTES is how long each hammer lasts; the tests and tests/soak find
# it in MOORAGE_SOAK_MINUTES. All parts run, also after one has failed.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

failures=()

# part NAME COMMAND...
part() {
	local name=$1 began=$SECONDS
	shift
	printf '\n== %s\n' "$name"
	if "$@"; then
		printf '== %s: passed, %s\n' "$name" "$(seconds "$began")"
	else
		printf '== %s: FAILED, %s\n' "$name" "$(seconds "$began")"
		failures+=("$name")
	fi
}

go_hammers() { go test -run '^TestSoak' -v -timeout 0 ./core/... ./capi/...; }

open_and_close() { CGO_ENABLED=0 go test -run OpenClose -v -timeout 0 ./core ./core/arena; }

models() { CGO_ENABLED=0 go test -timeout 0 ./core/arena/model -full; }

ten_million() {
	MOORAGE_BENCH=1 CGO_ENABLED=0 go test -run '^$' -bench '(Names|Objects)$/^10000000$' -benchtime 1x -timeout 0 ./core ./core/index
}

# No test marked "soak" is no failure.
python_soak() {
	local status=0
	PYTHONPATH=$BUILD/site "$1" -m pytest -c python/pyproject.toml --rootdir "$REPO" -o "cache_dir=$BUILD/pytest" \
		-o timeout=0 -m soak tests/python || status=$?
	[ $status -eq 0 ] || [ $status -eq 5 ]
}

# folder NAME PYTHON: tests/NAME/run.sh
folder() {
	local scratch=$BUILD/tests/soak-$1
	rm -rf "$scratch"
	mkdir -p "$scratch"
	MOOR_BUILD=$BUILD MOOR_PREFIX=$BUILD/prefix MOOR_SITE=$BUILD/site MOOR_TMP=$scratch PYTHON=$2 \
		bash "tests/$1/run.sh"
}

main() {
	local minutes=${1:-10} python
	[[ $minutes =~ ^[1-9][0-9]*$ ]] || die "soak takes a number of minutes, not '$minutes'"
	cd "$REPO"
	build_all
	python=$(test_venv full)
	export PYTHONPYCACHEPREFIX=$BUILD/pycache HYPOTHESIS_STORAGE_DIRECTORY=$BUILD/hypothesis
	export MOORAGE_SOAK_MINUTES=$minutes MOORAGE_HAMMER_SECONDS=$((minutes * 15))

	part 'hammers in Go' go_hammers
	part 'hammers in C' folder capi "$python"
	part 'hammers in Python' python_soak "$python"
	part '10 000 times open and close' open_and_close
	part 'ten million objects' ten_million
	part 'models, with the scenarios of millions of states' models
	part 'fuzzing' "$REPO/scripts/steps.sh" go_fuzz 86400 $((minutes * 6))
	[ ! -e tests/soak/run.sh ] || part 'tests/soak' folder soak "$python"
	[ ! -e scripts/mutate.sh ] || part 'each mechanism taken out' bash scripts/mutate.sh

	printf '\n'
	[ ${#failures[@]} -eq 0 ] || die "failed: $(printf '%s; ' "${failures[@]}" | sed 's/; $//')"
	say 'the soak found nothing'
}

main "$@"
