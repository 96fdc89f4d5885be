#!/usr/bin/env bash
# steps.sh NAME ARGS...: one step of the tests. test.sh runs each in a process of its own.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"
# shellcheck source=scripts/package.sh
. "$REPO/scripts/package.sh"

SKIPPED=77

# What Python writes while it runs belongs into build/ too.
export PYTHONPYCACHEPREFIX=$BUILD/pycache HYPOTHESIS_STORAGE_DIRECTORY=$BUILD/hypothesis

# go_packages ROOT...: the packages below these folders, of those that exist.
go_packages() {
	local root found=()
	for root in "$@"; do
		[ ! -d "$REPO/$root" ] || found+=("./$root/...")
	done
	[ ${#found[@]} -gt 0 ] && go list -f '{{.ImportPath}}' "${found[@]}"
}

step_go_pure() {
	local packages
	packages=$(CGO_ENABLED=0 go_packages core rdma | without_models)
	# shellcheck disable=SC2086 # a list of package names
	CGO_ENABLED=0 go test -v -timeout 7m $packages
}

# Models that walk every order of steps: one thread each, nothing for the race detector.
without_models() { grep -v '/model\(/\|$\)'; }

step_models() { CGO_ENABLED=0 go test -v -timeout 7m ./core/arena/model/...; }

step_go_cgo() {
	local packages
	packages=$(go_packages capi internal rdma)
	# shellcheck disable=SC2086
	go test -v -timeout 7m $packages
}

step_go_race() {
	local packages
	# The eviction policy is a state machine that nobody shares; its tests are long, and have run without the detector.
	packages=$(go_packages core capi internal rdma | without_models | grep -v '/evict$')
	# shellcheck disable=SC2086
	go test -v -race -short -timeout 9m $packages
}

# That every benchmark still runs; its figures mean nothing here. The largest one takes gigabytes.
step_go_benchmarks() {
	local packages
	packages=$(CGO_ENABLED=0 go_packages core | without_models)
	# shellcheck disable=SC2086 # a list of package names
	{
		CGO_ENABLED=0 go test -short -run '^$' -bench . -benchtime 1x -skip '/^10000000$' -timeout 4m $packages
		go test -run '^$' -bench . -benchtime 1x -timeout 1m ./rdma
	} | tee "$BUILD/logs/benchmarks.txt"
	echo "summary: $(grep -c 'ns/op' "$BUILD/logs/benchmarks.txt") benchmarks"
}

# fuzz_targets: a package and a fuzz target a line.
fuzz_targets() {
	grep -rE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' core capi internal rdma 2>/dev/null |
		sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]+)\(.*$|./\1 \2|' | sort
}

# fuzz PACKAGE TARGET SECONDS. Up to Go 1.26 the end of the time itself can be reported as a failure (golang/go issue 75804); one that
# was found comes with its input.
fuzz() {
	local said=$BUILD/logs/fuzzed.txt status=0
	go test "$1" -run '^$' -fuzz "^$2\$" -fuzztime "${3}s" >"$said" 2>&1 || status=$?
	cat "$said"
	[ $status -ne 0 ] || return 0
	grep -qx '    context deadline exceeded' "$said" && ! grep -qE 'Failing input written|^panic:|failure while testing seed' "$said" &&
		echo "the time was up, which is no failure: no input of $2 failed"
}

# go_fuzz SECONDS EACH: each target for EACH seconds, as long as there is time. What it finds stays in testdata/fuzz.
step_go_fuzz() {
	local end=$((SECONDS + $1)) each=$2 package target count=0 failed=0
	mkdir -p "$BUILD/logs"
	while read -r package target; do
		if [ $SECONDS -ge "$end" ]; then
			echo "skip: $target in $package was not fuzzed: the time for it was up (go test $package -run '^\$' -fuzz '^$target\$')"
			continue
		fi
		echo "$target in $package"
		fuzz "$package" "$target" "$each" || failed=1
		count=$((count + 1))
	done < <(fuzz_targets)
	[ $count -gt 0 ] || return $SKIPPED
	echo "summary: $count of $(fuzz_targets | wc -l) targets, $each s each"
	return $failed
}

step_build() { build_all; }

step_library_checks() {
	local tools
	need objdump binutils
	tools=$(tools_venv)
	"$tools" tests/packaging/check_library.py "$BUILD/libmoorage.so" include/moorage.h capi/moorage.map
	"$tools" tests/packaging/check_wheel.py "$(wheel_file)" "$BUILD/libmoorage.so"
	"$tools" -m auditwheel show "$(wheel_file)" | tee "$BUILD/logs/auditwheel.txt"
	grep -q '"manylinux_2_17_' "$BUILD/logs/auditwheel.txt"
	cmp LICENSE python/LICENSE
	cmp THIRD-PARTY-NOTICES python/THIRD-PARTY-NOTICES
}

# The sdist must build by itself: it is unpacked where nothing else of the project is.
step_sdist() {
	local folder=$BUILD/sdist tools
	tools=$(tools_venv)
	rm -rf "$folder"
	mkdir -p "$folder/wheel"
	build_sdist "$folder"
	env -u MOORAGE_PREBUILT TMPDIR="$folder" "$tools" -m pip wheel --quiet --no-build-isolation --no-deps \
		-w "$folder/wheel" "$folder"/moorage-*.tar.gz
	"$tools" tests/packaging/check_wheel.py "$folder"/wheel/moorage-*.whl
}

# folder NAME full|quick: tests/NAME/run.sh, with what it may use in the environment.
step_folder() {
	local scratch=$BUILD/tests/$1 python
	rm -rf "$scratch"
	mkdir -p "$scratch"
	python=$(test_venv "$2")
	MOOR_BUILD=$BUILD MOOR_PREFIX=$BUILD/prefix MOOR_SITE=$BUILD/site MOOR_TMP=$scratch PYTHON=$python \
		bash "tests/$1/run.sh"
}

# pythons: a name and a path for each Python >= 3.9 that can be found, one of each version and kind.
step_pythons() {
	local candidate
	for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3 /usr/bin/python3 /usr/local/bin/python3 \
		$(compgen -c python3 | grep -E '^python3(\.[0-9]+t?)?$' | sort -u); do
		"$candidate" -c '
import platform, sys, sysconfig
if sys.version_info >= (3, 9):
    kind = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print(f"{platform.python_implementation()}-{platform.python_version()}{kind}", sys.executable)
' 2>/dev/null || true
	done | sort -V -u -k 1,1
}

# smoke NAME PYTHON: the wheel as pip installs it, on both routes; with numpy where a finished one is to be had.
step_smoke() {
	local name=$1 base=$2 python site=$BUILD/smoke/$1
	if ! python=$(smoke_venv "$name" "$base"); then
		echo "skip: no numpy for $name, checked with the standard library alone"
		python=$(make_venv_of "$base" "smoke-$name-bare")
	fi
	rm -rf "$site"
	"$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$site" "$(wheel_file)"
	PYTHONPATH=$site "$python" -X faulthandler -W error tests/packaging/smoke.py
	PYTHONPATH=$site MOORAGE_ROUTE=ctypes "$python" -X faulthandler -W error tests/packaging/smoke.py
	PYTHONPATH=$site "$python" -m moorage --help >/dev/null
}

smoke_venv() { make_venv_of "$2" "smoke-$1" "$REQUIREMENTS/demo.txt"; }

# What a new user does: an empty venv, pip install, the example of the package's README.
step_empty_venv() {
	local venv=$BUILD/empty-venv base
	base=$(find_python)
	rm -rf "$venv"
	"$base" -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --no-index "$(wheel_file)"
	(cd "$BUILD" && "$venv/bin/python" "$REPO/tests/packaging/smoke.py" && "$venv/bin/moorage" --help >/dev/null)
}

step_test_venv() { test_venv "$1"; }

# fetch full|quick: the virtual machine and all venvs of the later steps, ahead of them. A failure shows in the step that
# needs one.
step_fetch() {
	local name base
	[ "${RDMA_REQUIRED:-}" != 1 ] || bash tests/rdma/vm.sh || true
	test_venv "$1" || true
	step_pythons | while read -r name base; do
		smoke_venv "$name" "$base" || true
	done
}

# run_pytest full|quick ROUTE ARGS... A view that a test leaves behind fails all later ones, each after a while.
run_pytest() {
	local python route=$2
	python=$(test_venv "$1")
	shift 2
	PYTHONPATH=$BUILD/site MOORAGE_ROUTE=$route "$python" -m pytest -c python/pyproject.toml --rootdir "$REPO" \
		-o "cache_dir=$BUILD/pytest" --continue-on-collection-errors --maxfail 20 "$@"
}

# pytest full|quick ROUTE: all but what compares times, which runs alone.
step_pytest() { run_pytest "$1" "$2" -m 'not performance' tests/python; }

# performance full|quick ROUTE
step_performance() {
	local status=0 files
	mapfile -t files < <(grep -l 'pytest\.mark\.performance' tests/python/test_*.py)
	run_pytest "$1" "$2" -m performance "${files[@]}" || status=$?
	if [ $status -eq 5 ]; then # pytest ran none
		echo 'skip: no test compares times with these packages'
		return $SKIPPED
	fi
	return $status
}

cd "$REPO"
name=$1
shift
"step_$name" "$@"
