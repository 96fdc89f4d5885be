"""What fio gets out of the same directory with the same pattern: the measure for what the device can do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from . import threads
from .objects import BLOCK, Object, content
from .rows import CHUNK, FLYING, Row

NAME = "fio"
HOW = "apt install fio, or dnf install fio"


class Fio(Row):
    """So many jobs as the depth says, each reading its part of one file: all chunks of an object are submitted together
    and reaped together, then those of the next, as io_uring with registered memory and files does it.

    It gives throughput and CPU, no latency of objects: fio knows chunks.
    """

    def __init__(self, folder: str, seconds: float, huge: bool = True) -> None:
        super().__init__(NAME, 0, "fio reports no time of whole objects", lambda objects: None)  # type: ignore[arg-type, return-value]
        self._file = os.path.join(folder, "fio.bin")
        self._seconds = seconds
        self._environment = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(huge)}"}
        self._made = (0, 0)

    def lacking(self) -> str | None:
        return None if shutil.which("fio") else f"not installed ({HOW}): no share of fio is shown"

    def prepare(self, objects: Sequence[Object]) -> None:
        if objects[0].size % BLOCK:
            raise ValueError(f"fio reads whole blocks of {BLOCK} bytes with O_DIRECT")
        if self._made[0] == objects[0].size and self._made[1] >= len(objects):
            return
        self.done()
        with open(self._file, "xb", buffering=0) as file:
            for i, one in enumerate(objects):
                data = memoryview(content(one.size, i))
                while len(data):
                    data = data[file.write(data) :]
            os.fsync(file.fileno())
        self._made = objects[0].size, len(objects)

    def files(self, objects: Sequence[Object]) -> list[str]:
        return [self._file]

    def command(self, objects: Sequence[Object], depth: int) -> list[str]:
        """As it can be run by hand. Its memory is of the pages that the C library's allocator is told to ask for."""
        size = objects[0].size
        chunk, share = min(CHUNK, size), len(objects) // depth * size
        # A whole object's chunks at once; one that has more than may fly is a stream of them.
        together = size // chunk if size % chunk == 0 and size // chunk <= FLYING else 0
        batch = [f"--iodepth_batch_submit={together}", f"--iodepth_batch_complete_min={together}"] if together else []
        return [
            "fio", "--name=read", f"--filename={_escaped(self._file)}", "--rw=read", "--ioengine=io_uring",
            "--direct=1", "--fixedbufs=1", "--registerfiles=1", f"--bs={chunk}", f"--iodepth={together or FLYING}",
            *batch, "--thread=1", f"--numjobs={depth}", f"--size={share}", f"--offset_increment={share}",
            "--time_based=1", f"--runtime={max(round(self._seconds * 1000), 100)}ms", "--group_reporting=1",
            "--output-format=json",
        ]  # fmt: skip

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        done = subprocess.run(
            self.command(objects, depth), capture_output=True, text=True, timeout=60 + 10 * self._seconds,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        if done.returncode != 0:
            raise OSError(f"fio ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return parse(done.stdout)

    def done(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file)
        self._made = (0, 0)


def parse(text: str) -> threads.Ran:
    """fio's report of one group of jobs. What it prints before the JSON, as warnings, is passed over."""
    (job,) = json.loads(text[text.index("{") :])["jobs"]
    if job.get("error"):
        raise OSError(job["error"], f"fio: {os.strerror(job['error'])}")
    read: dict[str, Any] = job["read"]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1e6
    return threads.Ran([], read["io_bytes"], read["runtime"] * 1_000_000, round(busy), job["minf"], job["majf"])


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
