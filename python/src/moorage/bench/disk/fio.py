"""What fio gets out of the same directory with the same pattern: the measure for what the device can do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import threads
from .objects import BLOCK, Object, content
from .rows import CHUNK, FLYING, Row

NAME = "fio"
HOW = "apt install fio, or dnf install fio"
_SLACK = 60
"""Seconds that fio may take beyond those that it was told to."""


def lacking() -> str | None:
    """Why there is no fio here."""
    return None if shutil.which("fio") else f"not installed ({HOW}): no share of fio is shown"


@dataclass(frozen=True)
class Pattern:
    """So many jobs, each with one whole object after the other in its share of the file."""

    size: int
    """Of an object."""
    jobs: int
    share: int
    """Bytes of the file for each job."""
    chunk: int = CHUNK
    flying: int = FLYING
    """Chunks of an object at a time; 0: the object is one call that waits."""
    write: bool = False
    scattered: bool = False
    """The next object lies anywhere in the share, not behind the one before."""

    def options(self, file: str, seconds: float | None) -> list[str]:
        """As they stand in a job file; None: each share once. Its memory is of the pages that the C library's allocator
        is told to ask for.
        """
        until = [] if seconds is None else ["time_based=1", f"runtime={max(round(seconds * 1000), 100)}ms"]
        return [
            f"filename={_escaped(file)}", f"rw={self._order()}", *self._interface(), "thread=1",
            f"numjobs={self.jobs}", f"size={self.share}", f"offset_increment={self.share}", *until, "group_reporting=1",
        ]  # fmt: skip

    def _order(self) -> str:
        kind = "write" if self.write else "read"
        return f"rand{kind}:{self._pieces}" if self.scattered else kind

    @property
    def _pieces(self) -> int:
        """Of an object."""
        return -(-self.size // self.chunk) if self.flying else 1

    @property
    def _block(self) -> int:
        """Whole blocks of a device, as alike as they can be."""
        return -(-self.size // self._pieces // BLOCK) * BLOCK

    def _interface(self) -> list[str]:
        found = ["direct=1"]
        if self.write:  # an object is durable when its write counts as done
            found.append(f"fsync={self._pieces}")
        if self.scattered:
            found.append("norandommap=1")
        if not self.flying:
            return [*found, "ioengine=psync", f"bs={self._block}"]
        # A whole object's chunks at once; one that has more than may fly is a stream of them.
        together = self._pieces if self._pieces <= self.flying else 0
        batch = [f"iodepth_batch_submit={together}", f"iodepth_batch_complete_min={together}"] if together else []
        return [
            "ioengine=io_uring", *found, "fixedbufs=1", "registerfiles=1", f"bs={self._block}",
            f"iodepth={together or self.flying}", *batch,
        ]  # fmt: skip


class Fio(Row):
    """So many jobs as the depth says, each reading its part of one file: all chunks of an object are submitted together
    and reaped together, then those of the next, as io_uring with registered memory and files does it.

    It gives throughput and CPU, no latency of objects: fio knows chunks.
    """

    def __init__(self, folder: str, seconds: float, huge: bool = True) -> None:
        super().__init__(NAME, 0, "fio reports no time of whole objects", lambda objects: None)  # type: ignore[arg-type, return-value]
        self._file = os.path.join(folder, "fio.bin")
        self._seconds = seconds
        self._huge = huge
        self._made = (0, 0)

    def lacking(self) -> str | None:
        return lacking()

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
        """As it can be run by hand."""
        size = objects[0].size
        options = Pattern(size, depth, len(objects) // depth * size).options(self._file, self._seconds)
        return ["fio", "--name=read", *(f"--{option}" for option in options), "--output-format=json"]

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        return parse(call(self.command(objects, depth), self._seconds, huge=self._huge))["read"]

    def done(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file)
        self._made = (0, 0)


def call(words: Sequence[str], seconds: float, *, huge: bool = True) -> str:
    """What fio prints. OSError with its last words when it fails."""
    environment = {**os.environ, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(huge)}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=_SLACK + 10 * seconds, env=environment)
    if done.returncode != 0:
        raise OSError(f"fio ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def parse(text: str) -> dict[str, threads.Ran]:
    """Of each group of jobs, by its name: "read" or "write", as what it does is called too. What fio prints before the
    JSON, as warnings, is passed over.
    """
    return {job["jobname"]: _job(job) for job in json.loads(text[text.index("{") :])["jobs"]}


def _job(job: dict[str, Any]) -> threads.Ran:
    if job.get("error"):
        raise OSError(job["error"], f"fio: {os.strerror(job['error'])}")
    did: dict[str, Any] = job[job["jobname"]]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1e6
    return threads.Ran([], did["io_bytes"], did["runtime"] * 1_000_000, round(busy), job["minf"], job["majf"])


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
