#!/usr/bin/env bash
# The verbs package on a real device between two processes, in a virtual machine with soft RoCE: with the shim in C, and what
# moves bytes once more without cgo. RDMA_REQUIRED=1 makes a failure of what would be skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${MOOR_TMP:-$(mktemp -d)}/vm
mkdir -p "$work"
cd "$here"

CGO_ENABLED=1 go test -c -o "$work/shim.test" .
CGO_ENABLED=0 go test -c -o "$work/pure.test" .
cat >"$work/run.sh" <<'RUN'
export RDMA_REQUIRED=1
chmod 666 /dev/infiniband/uverbs*
chmod 755 /test /test/*.test
./shim.test -test.v -test.timeout 150s || exit 1
./pure.test -test.v -test.timeout 150s -test.run 'Reads|Targets|Killed' || exit 1
RUN

status=0
bash "$here/vm.sh" "$work" || status=$?
if [ $status -eq 77 ] && [ "${RDMA_REQUIRED:-}" = 1 ]; then
	echo 'RDMA_REQUIRED=1: that is a failure'
	exit 1
fi
exit $status
