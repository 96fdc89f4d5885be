#!/usr/bin/env bash
# Runs every test of every language, each as a named step with a time limit and a log of its own, and goes on after a
# failure to show them all. Ends with what was skipped and why, what only other commands run, and how many steps passed.
#
#   test.sh [--quick]        --quick leaves out torch
#   test.sh --only WORD      only the steps whose name contains WORD (and the build that they need)

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"

LOGS=$BUILD/logs
NOTES=$BUILD/logs/skipped
RESULTS=$BUILD/logs/results # a line a step: PASS, FAIL or SKIP, and its name
running=
lane=

# Seconds from the start after which no more is fuzzed.
LATEST_FUZZING=870

# CI stops after 20 minutes, without a word. There a step gets no more than what is left of 19, so that the end is told.
DEADLINE=
[ "${CI:-}" != true ] || DEADLINE=1140

# A step runs in a process group of its own, under its time limit; an interrupt must reach it there.
stop() {
	[ -z "$running" ] || kill "$running" 2>/dev/null
	[ -z "$lane" ] || kill "$lane" 2>/dev/null
	exit 130
}
trap stop INT TERM

# result VERDICT NAME TIME WORDS
result() {
	printf '%s %s\n' "$1" "$2" >>"$RESULTS"
	printf '%-4s  %-28s %5s  %s\n' "$@"
}

count() { grep -c "^$1 " "$RESULTS" || true; }

log_of() { printf '%s\n' "$LOGS/${1//[^A-Za-z0-9.+-]/_}.log"; }

# step NAME MINUTES COMMAND...: exit status 77 means skipped, with the reason in a line `skip: ...` of its output.
step() {
	local name=$1 limit=$(($2 * 60)) log began=$SECONDS status=0
	shift 2
	[ -z "$only" ] || [[ $name == build || $name == *"$only"* ]] || return 0
	log=$(log_of "$name")
	if [ -n "$DEADLINE" ] && [ $limit -gt $((DEADLINE - SECONDS)) ]; then
		limit=$((DEADLINE - SECONDS))
		[ $limit -gt 0 ] || limit=1
	fi
	timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null &
	running=$!
	wait "$running" || status=$?
	running=
	case $status in
	0)
		result PASS "$name" "$(seconds "$began")" "$(summary "$log")"
		;;
	77)
		result SKIP "$name" "$(seconds "$began")" "$(sed -n 's/^skip: //p' "$log" | tail -n 1)"
		;;
	*)
		[[ $status != 124 && $status != 137 ]] || printf 'stopped after %s seconds\n' "$limit" >>"$log"
		result FAIL "$name" "$(seconds "$began")" "${log#"$REPO/"}
$(ending "$log" 150)"
		;;
	esac
	note_skips "$name" "$log"
	return 0
}

# summary LOG: what the runner itself counted, in a few words.
summary() {
	local count
	if grep -q '^summary: ' "$1"; then
		sed -n 's/^summary: //p' "$1" | tail -n 1
	elif grep -qE '^=+ .* in [0-9.]+s.*=+$' "$1"; then
		grep -E '^=+ .* in [0-9.]+s.*=+$' "$1" | tail -n 1 | sed -E 's/^=+ | in [0-9.]+s.*$//g'
	elif count=$(grep -cE '^--- PASS' "$1"); then
		printf '%s tests' "$count"
	fi
}

# note_skips NAME LOG: the skips inside a step that passed, for the end.
note_skips() {
	{
		sed -n 's/^skip: //p' "$2"
		sed -nE 's/^SKIPPED (\[[0-9]+\] .*)$/\1/p' "$2"
		awk -v want=skips -f "$REPO/scripts/go_verdicts.awk" "$2"
	} | sort -u | sed "s|^|$1: |" >>"$NOTES"
}

# ending LOG LINES: what matters of a failed step's log; of go test, the tests that failed.
ending() {
	if grep -qE '^(=== RUN |ok  |--- FAIL|FAIL	)' "$1"; then
		awk -v want=failures -f "$REPO/scripts/go_verdicts.awk" "$1" | head -n "$2"
	else
		tail -n "$2" "$1"
	fi | sed 's/^/      | /'
}

run_go_steps() {
	local steps=$REPO/scripts/steps.sh
	step 'core, rdma without cgo' 8 "$steps" go_pure
	step 'models' 8 "$steps" models
	step 'capi' 8 "$steps" go_cgo
	step 'race detector' 10 "$steps" go_race
	step 'Go benchmarks, once each' 5 "$steps" go_benchmarks
}

run_native_steps() {
	local steps=$REPO/scripts/steps.sh folder
	step 'library checks' 2 "$steps" library_checks
	step 'source distribution' 5 "$steps" sdist
	for folder in "$REPO"/tests/*/; do
		folder=$(basename "$folder")
		[ -e "$REPO/tests/$folder/run.sh" ] || continue
		[[ $folder != bench && $folder != rdma && $folder != soak ]] || continue # see below
		step "tests/$folder" 8 "$steps" folder "$folder" "$which"
	done
}

# Ten million objects are for ./build.sh bench.
run_c_benchmarks() {
	step 'C benchmarks, once each' 3 env MOORAGE_BENCH_OBJECTS=100000 "$REPO/scripts/steps.sh" folder bench "$which"
}

run_python_steps() {
	local steps=$REPO/scripts/steps.sh which=$1
	step 'test venv' 20 "$steps" test_venv "$which"
	step 'pytest, builtin route' 14 "$steps" pytest "$which" builtin
}

# whoever STEP...: a step that the lane does which comes to it first.
whoever() { ! mkdir "$LOGS/taken ${1//\//-}" 2>/dev/null || step "$@"; }

# The longest first, so that both lanes end at about the same time.
run_last_steps() {
	local steps=$REPO/scripts/steps.sh which=$1 name python
	whoever 'pytest, ctypes route' 12 "$steps" pytest "$which" ctypes
	whoever 'tests/rdma' 8 "$steps" folder rdma "$which"
	whoever 'tests/soak' 8 "$steps" folder soak "$which"
	whoever 'lint' 5 bash "$REPO/scripts/lint.sh" "$which"
	while read -r name python; do
		whoever "wheel on $name" 3 "$steps" smoke "$name" "$python"
	done < <("$steps" pythons)
	whoever 'empty venv' 3 "$steps" empty_venv
}

# Ratios of times: last, when nothing else of ours is running.
run_timed_steps() {
	step 'performance, builtin route' 4 "$steps" performance "$which" builtin
	step 'performance, ctypes route' 4 "$steps" performance "$which" ctypes
}

not_run() {
	local name
	for name in "$@"; do
		result FAIL "$name" 0s 'not run: the library was not built'
	done
}

# What no step here runs, each with the command that does.
not_run_here() {
	cat <<-'TEXT'
		Not run here:
		  figures of the benchmarks, ten million objects                  ./build.sh bench
		  long hammers and fuzzing, 10 000 cycles of open and close,      ./build.sh soak
		    models of millions of states
		  each mechanism taken out, to see the tests of it fail           scripts/mutate.sh
	TEXT
	[ "$which" = full ] || echo '  everything that needs torch                                     ./build.sh test'
	! grep -q '^SKIP tests/rdma$' "$RESULTS" ||
		echo '  a real RDMA device, in a virtual machine                        RDMA_REQUIRED=1 ./build.sh test, as root'
}

report() {
	local name log
	echo
	if [ -s "$NOTES" ]; then
		echo 'Skipped:'
		sed 's/^/  /' "$NOTES"
	fi
	not_run_here
	sed -n 's/^FAIL //p' "$RESULTS" | while read -r name; do
		printf 'Failed: %s\n' "$name"
		log=$(log_of "$name")
		[ ! -e "$log" ] || ending "$log" 25
	done
	printf 'Took %d min %02d s\n\n' $((SECONDS / 60)) $((SECONDS % 60))
	printf '%d passed, %d failed, %d skipped\n' "$(count PASS)" "$(count FAIL)" "$(count SKIP)"
}

main() {
	local steps=$REPO/scripts/steps.sh
	which=full only=
	while [ $# -gt 0 ]; do
		case $1 in
		--quick) which=quick ;;
		--only) only=${2:?--only needs a word} && shift ;;
		*) die "test takes --quick, not '$1'" ;;
		esac
		shift
	done
	need timeout coreutils
	need_go
	need_cc
	need "${CXX:-c++}" g++
	mkdir -p "$LOGS"
	rm -rf "$LOGS"/*.log "$LOGS"/taken*
	: >"$NOTES"
	: >"$RESULTS"

	# Fetching is mostly waiting; it goes on beside the Go tests.
	"$steps" fetch "$which" >"$LOGS/fetch.log" 2>&1 </dev/null &
	step 'build' 8 "$steps" build
	if grep -q '^FAIL build$' "$RESULTS"; then
		run_go_steps
		not_run 'everything that needs the library'
	else
		# Half of the work beside the other half. Nothing in it compares times.
		(
			trap stop TERM
			run_python_steps "$which"
			run_last_steps "$which"
		) &
		lane=$!
		run_go_steps
		run_native_steps
		run_c_benchmarks
		run_last_steps "$which"
	fi
	wait
	lane=
	step 'fuzzing' 10 "$steps" go_fuzz $((LATEST_FUZZING - SECONDS)) 3
	run_timed_steps
	report
	[ "$(count FAIL)" -eq 0 ]
}

main "$@"
