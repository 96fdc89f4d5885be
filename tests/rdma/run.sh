#!/usr/bin/env bash
# Real verbs, in a virtual machine with soft RoCE: the verbs package between two processes, with the shim in C, and what moves
# bytes once more without cgo; then libmoorage in a C program, in Python, and in `moorage bench register`.
# RDMA_REQUIRED=1 makes a failure of what would be skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${MOOR_TMP:-$(mktemp -d)}/vm
python=${PYTHON:-python3}
mkdir -p "$work"
cd "$here"

# carry: the library, the programs, and a Python for them.
carry() {
	cp "$MOOR_BUILD/libmoorage.so" "$work/libmoorage.so.1"
	"${CC:-cc}" -std=gnu11 -Wall -Wextra -Werror "-I$root/include" programs/store.c -o "$work/store" "$work/libmoorage.so.1"
	cp programs/store.py "$work/"
	rm -rf "$work/python"
	MOORAGE_LIBRARY=$work/libmoorage.so.1 "$python" -I programs/carry_python.py "$work/python" "$root/python/src"
	find "$work/python" -name '*.so*' -exec strip --strip-unneeded {} +
	cat >>"$work/run.sh" <<-'RUN'
		since() { echo "vm: $1 after $(cut -d' ' -f1 /proc/uptime) s"; }
		since 'the verbs package'
		LD_LIBRARY_PATH=/test ./store || exit 1
		since 'a C program'
		export MOORAGE_LIBRARY=/test/libmoorage.so.1 PYTHONHOME=/test/python PYTHONPATH=/test/python/site PYTHONDONTWRITEBYTECODE=1
		export LD_LIBRARY_PATH=/test/python/lib
		python=/test/python/bin/python3
		$python store.py || exit 1
		since 'a Python program'
		$python -m moorage bench register --device rxe0 --quick --json /tmp/register.json 2>/dev/null || exit 1
		grep -q '"device": "rxe0"' /tmp/register.json || exit 1
	RUN
}

CGO_ENABLED=1 go test -c -o "$work/shim.test" .
CGO_ENABLED=0 go test -c -o "$work/pure.test" .
cat >"$work/run.sh" <<'RUN'
export RDMA_REQUIRED=1
chmod 666 /dev/infiniband/uverbs*
chmod 755 /test /test/*.test
./shim.test -test.v -test.timeout 150s || exit 1
./pure.test -test.v -test.timeout 150s -test.run 'Reads|Targets|Killed' || exit 1
RUN
if [ -f "${MOOR_BUILD:-}/libmoorage.so" ]; then
	carry
else
	echo "skip: libmoorage in the virtual machine (MOOR_BUILD has no libmoorage.so)"
fi

status=0
bash "$here/vm.sh" "$work" | tee "$work.log" || status=$? # that of vm.sh, by pipefail
if [ $status -eq 77 ] && [ "${RDMA_REQUIRED:-}" = 1 ]; then
	echo 'RDMA_REQUIRED=1: that is a failure'
	exit 1
fi
programs=$(sed -n 's/^ok a /, a /p' "$work.log" | tr -d '\n')
! grep -q '^Conclusion' "$work.log" || programs+=', bench register'
[ $status -ne 0 ] || echo "summary: on a real device: $(grep -c '^--- PASS' "$work.log") tests$programs"
exit $status
