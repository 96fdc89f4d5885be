#!/usr/bin/env bash
# lint.sh [full|quick]: everything that reads the sources and runs nothing. All findings are shown before it fails.

# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/venv.sh
. "$REPO/scripts/venv.sh"

STATICCHECK=v0.8.2
failed=0

# check NAME COMMAND...: one linter; prints what it says only when it finds something.
check() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "ok    $name"
	else
		printf 'FOUND %s\n%s\n' "$name" "$said"
		failed=1
	fi
}

go_folders() {
	local folder
	for folder in capi core rdma internal tests; do
		[ ! -d "$REPO/$folder" ] || printf '%s\n' "$folder"
	done
}

unformatted() {
	local files
	files=$(go_folders | xargs gofmt -l)
	[ -z "$files" ] || {
		printf 'gofmt would change:\n%s\n' "$files"
		return 1
	}
}

# A merge that nobody finished is no error of any language in a comment or a document.
unmerged() { ! grep -rnE '^(<<<<<<<|>>>>>>>) ' --exclude-dir=build --exclude-dir=.git --exclude-dir=dist .; }

staticcheck() {
	local folder
	folder=$CACHE/staticcheck-$STATICCHECK-$(go env GOVERSION)
	[ -x "$folder/staticcheck" ] ||
		GOBIN=$folder go install "honnef.co/go/tools/cmd/staticcheck@$STATICCHECK"
	"$folder/staticcheck" ./...
}

lint_go() {
	check gofmt unformatted
	check 'go vet' go vet ./...
	check staticcheck staticcheck
}

# lint_python TOOLS full|quick
lint_python() {
	local tools=$1 sources
	sources=$(find python demo tests -name '*.py' -not -path '*/build/*' -print -quit 2>/dev/null)
	[ -n "$sources" ] || return 0
	check ruff "$tools" -m ruff check --quiet --config python/pyproject.toml --cache-dir "$BUILD/ruff" python demo tests
	# numpy's types come from the test venv.
	check 'mypy --strict' "$tools" -m mypy --config-file python/pyproject.toml --cache-dir "$BUILD/mypy" \
		--python-executable "$(test_venv "$2")" python/src/moorage
}

main() {
	local tools shell_scripts
	need_go
	need_cc
	tools=$(tools_venv)
	cd "$REPO"
	mkdir -p "$BUILD"
	check 'merges are finished' unmerged
	lint_go
	lint_python "$tools" "${1:-quick}"
	mapfile -t shell_scripts < <(find build.sh .ci/run scripts demo tests -name run -o -name '*.sh')
	check shellcheck "$(dirname "$tools")/shellcheck" --severity=warning --external-sources --source-path=SCRIPTDIR \
		"${shell_scripts[@]}"
	exit "$failed"
}

main "$@"
