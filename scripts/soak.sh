#!/usr/bin/env bash
# soak.sh [MINUTES]: what is too long for the tests. Go tests named TestSoak..., pytest's marker "soak" and tests/soak
# read MOORAGE_SOAK_MINUTES, their share of the time.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

main() {
	local minutes=${1:-10} python scratch=$BUILD/tests/soak failed=0
	[[ $minutes =~ ^[0-9]+$ ]] || die "soak takes a number of minutes, not '$minutes'"
	cd "$REPO"
	build_all
	python=$(test_venv full)
	mkdir -p "$scratch"
	export MOORAGE_SOAK_MINUTES=$minutes PYTHONPYCACHEPREFIX=$BUILD/pycache HYPOTHESIS_STORAGE_DIRECTORY=$BUILD/hypothesis

	say 'Go'
	go test -run '^TestSoak' -v -timeout 0 ./core/... ./capi/... || failed=1
	say 'Models, with the scenarios of millions of states'
	CGO_ENABLED=0 go test -timeout 0 ./core/arena/model -full || failed=1
	if [ -d tests/python ]; then
		say 'Python'
		PYTHONPATH=$BUILD/site "$python" -m pytest -c python/pyproject.toml --rootdir "$REPO" -o "cache_dir=$BUILD/pytest" \
			-o timeout=0 -m soak tests/python || [ $? -eq 5 ] || failed=1
	fi
	if [ -e tests/soak/run.sh ]; then
		say 'tests/soak'
		MOOR_BUILD=$BUILD MOOR_PREFIX=$BUILD/prefix MOOR_SITE=$BUILD/site MOOR_TMP=$scratch PYTHON=$python \
			bash tests/soak/run.sh || failed=1
	fi
	exit "$failed"
}

main "$@"
