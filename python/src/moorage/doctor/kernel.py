"""The kernel: which it is, and which of its calls may be used here."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .row import NOTE, OK, PROBLEM, Row
from .system import System, numbers

_WIPE_ON_FORK = (4, 14)
_IO_URING = (5, 1)
_PROBE = Path(__file__).with_name("probe.py")


def ask(name: str, *arguments: str) -> dict[str, Any]:
    """What probe.py answers, in a process of its own; {"signal": number} when it was killed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_PROBE), name, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    if done.returncode < 0:
        return {"signal": -done.returncode}
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def killed(answer: dict[str, Any]) -> str:
    number = answer["signal"]
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def version(_: System) -> Iterator[Row]:
    release = platform.release()
    linux, arch = sys.platform == "linux", platform.machine()
    old = linux and numbers(release) < _WIPE_ON_FORK
    if not linux or arch != "x86_64":
        yield Row(
            "kernel",
            f"{platform.system()} {release}, {arch}",
            NOTE,
            "tested on Linux on x86-64 only",
            "another machine",
        )
        return
    yield Row(
        "kernel",
        f"Linux {release}, {arch}",
        NOTE if old else OK,
        "before 4.14 a forked child learns a moment later that it is one" if old else "has what a store wants",
        "a newer kernel" if old else "",
    )


def c_library(_: System) -> Iterator[Row]:
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):
        found = ""
    enough = numbers(found.rpartition(" ")[2]) >= (2, 17)
    yield Row(
        "C library",
        found or "not glibc",
        OK if enough else PROBLEM,
        "the library needs glibc 2.17 or newer" + ("" if enough else "; musl does not do"),
        "" if enough else "an image with glibc (debian, ubuntu, rocky ...)",
        fatal=not enough,
    )


def memfd(system: System) -> Iterator[Row]:
    answer = ask("memfd")
    means = "a store's memory is a memfd, sealed against growing and shrinking; it counts as shared memory"
    if answer.get("errno") == 0:
        yield Row("memfd", "can be made and sealed", OK, means)
        return
    if "signal" in answer:
        found = f"the call is killed ({killed(answer)})"
    else:
        found = f"{answer['step']}: {os.strerror(answer['errno'])}"
    change = "allow memfd_create and fcntl in the seccomp profile"
    if system.number("/proc/sys/vm/memfd_noexec") == 2:
        change = "sysctl vm.memfd_noexec=1"
    yield Row("memfd", found, PROBLEM, means, change, fatal=True)


def io_uring(system: System) -> Iterator[Row]:
    found, change = _io_uring(system, ask("io_uring"))
    yield Row(
        "io_uring",
        found,
        NOTE if change else OK,
        "reads and writes of Store(disk=...) go through it; without, through pread in several threads",
        change,
    )


def _io_uring(system: System, answer: dict[str, Any]) -> tuple[str, str]:
    """What was found, and how to change it if it cannot be used."""
    if "signal" in answer:
        return f"refused: a seccomp filter kills the caller ({killed(answer)})", _SECCOMP
    number = answer["errno"]
    if number == 0:
        return "can be used", ""
    name = errno.errorcode.get(number, str(number))
    filtered = system.field("/proc/self/status", "Seccomp") == "2"
    if number == errno.ENOSYS:
        if numbers(platform.release()) < _IO_URING:
            return f"{name}: the kernel is older than 5.1", "a newer kernel"
        if filtered:
            return f"{name}: a seccomp filter answers so, or the kernel was built without", _SECCOMP
        return f"{name}: the kernel was built without", "a kernel with CONFIG_IO_URING"
    if number in (errno.EPERM, errno.EACCES):
        disabled = system.number("/proc/sys/kernel/io_uring_disabled")
        if disabled == 2:
            return f"{name}: kernel.io_uring_disabled is 2, for everybody", "sysctl kernel.io_uring_disabled=0"
        if disabled == 1:
            return (
                f"{name}: kernel.io_uring_disabled is 1, or seccomp",
                "join the group kernel.io_uring_group, or set 0",
            )
        return f"{name}: a seccomp filter or a security module", _SECCOMP
    if number == errno.ENOMEM:
        return f"{name}: RLIMIT_MEMLOCK is used up", "ulimit -l unlimited"
    return f"{name}: {os.strerror(number)}", "look at the kernel's log"


_SECCOMP = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"


CHECKS = (version, c_library, memfd, io_uring)
