"""Memory, and what limits it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from .row import NOTE, OK, PROBLEM, Row
from .system import System, amount, limits, whole

_HUGE = "/sys/kernel/mm/hugepages"
_TRANSPARENT = "/sys/kernel/mm/transparent_hugepage"
_USUAL_MAPS = 65530


def memory_limit(system: System) -> Iterator[Row]:
    physical = system.kib("/proc/meminfo", "MemTotal")
    found = [(limit.limit, limit.file, limit.usage) for limit in limits(system)]
    if physical is not None:
        available = system.kib("/proc/meminfo", "MemAvailable")
        used = None if available is None else physical - available
        found.append((physical, "the machine", used))
    if not found:
        yield Row("memory limit", "not known", NOTE, "Store() takes 1 GiB", "give Store(capacity)")
        return
    limit, where, used = min(found)
    left = "" if used is None else f", {amount(max(limit - used, 0))} not in use"
    tight = used is not None and limit - used < limit // 20
    yield Row(
        "memory limit",
        f"{amount(limit)} ({where}){left}",
        PROBLEM if tight else OK,
        "Store() takes a quarter as its capacity; near the limit puts raise NoMemoryError",
        "raise memory.max of the container, or give Store(capacity)",
    )


def address_space(system: System) -> Iterator[Row]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        yield Row("RLIMIT_AS", "unlimited", OK, "a store maps its capacity twice; mappings cost nothing until used")
        return
    used = (whole((system.text("/proc/self/statm") or "").partition(" ")[0]) or 0) * resource.getpagesize()
    yield Row(
        "RLIMIT_AS",
        f"{amount(soft)}, {amount(used)} in use",
        NOTE,
        f"a store maps its capacity twice: at most {amount(max(soft - used, 0) // 2)} of it, less the windows",
        "ulimit -v unlimited; limit memory by a control group instead",
    )


def memlock(system: System) -> Iterator[Row]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    means = "what is registered with a network card counts, once for each card, and so does register(lock=True)"
    if soft == resource.RLIM_INFINITY:
        yield Row("RLIMIT_MEMLOCK", "unlimited", OK, means)
    elif _may_lock(system):
        yield Row("RLIMIT_MEMLOCK", f"{amount(soft)}, and this process is exempt (CAP_IPC_LOCK)", OK, means)
    else:
        cards = os.path.isdir(system.root + "/sys/class/infiniband")
        change = "ulimit -l unlimited; LimitMEMLOCK=infinity (systemd); docker run --ulimit memlock=-1"
        yield Row("RLIMIT_MEMLOCK", amount(soft), NOTE if cards else OK, means, change)


_CAP_IPC_LOCK = 14


def _may_lock(system: System) -> bool:
    """A capability; but not that of a container without root on the host, which has users of its own."""
    field = system.field("/proc/self/status", "CapEff") or "0"
    try:
        has = bool(int(field, 16) >> _CAP_IPC_LOCK & 1)
        return has and (system.text("/proc/self/uid_map") or "").split() == ["0", "0", "4294967295"]
    except ValueError:
        return False


def huge_pages(system: System) -> Iterator[Row]:
    try:
        folders = sorted(os.listdir(system.root + _HUGE))
    except OSError:
        folders = []
    sizes = []
    for folder in folders:
        kib = whole(folder.replace("hugepages-", "").replace("kB", ""))
        total = system.number(f"{_HUGE}/{folder}/nr_hugepages")
        free = system.number(f"{_HUGE}/{folder}/free_hugepages")
        if kib is not None and total is not None:
            sizes.append(f"{amount(kib << 10)}: {total}, {'?' if free is None else free} free")
    change = "sysctl vm.nr_hugepages=N, one for every 2 MiB of capacity" if sizes else "a kernel with CONFIG_HUGETLBFS"
    yield Row(
        "huge pages",
        "; ".join(sizes) or "none in this kernel",
        OK,
        'used with Store(hugepages="try" or "require") only; with them mode "cow" is a copy',
        change,
    )


def transparent_huge_pages(system: System) -> Iterator[Row]:
    for name, what, means in (  # fmt: skip
        ("enabled", "THP, private memory", 'copies (mode "copy", and in place of windows) ask for them from 4 MiB on'),
        (
            "shmem_enabled", "THP, shared memory",
            "the store's own memory has them where it is made ready ahead, from Linux 6.1 on and unless this says "
            '"deny"; everywhere with "always" only',
        ),
    ):
        text = system.text(f"{_TRANSPARENT}/{name}")
        chosen = text.partition("[")[2].partition("]")[0] if text else ""
        change = f"echo always > {_TRANSPARENT}/{name}" if chosen and chosen != "always" else ""
        yield Row(what, chosen or "not known", OK, means, change)


def mappings(system: System) -> Iterator[Row]:
    limit = system.number("/proc/sys/vm/max_map_count")
    used = len(system.lines("/proc/self/maps"))
    if limit is None:
        yield Row("vm.max_map_count", "not known", NOTE, f"{_USUAL_MAPS} is assumed")
        return
    yield Row(
        "vm.max_map_count",
        f"{limit}, {used} in use by this program",
        NOTE if limit < _USUAL_MAPS else OK,
        f'{limit // 8 * 3} windows of mode "cow" at a time; further ones are counted copies',
        "sysctl vm.max_map_count=262144",
    )


def overcommit(system: System) -> Iterator[Row]:
    mode = system.number("/proc/sys/vm/overcommit_memory")
    if mode == 2:
        yield Row(
            "vm.overcommit_memory",
            "2 (strict)",
            NOTE,
            'every window of mode "cow" counts in full against CommitLimit, written to or not; mode "view" does not',
            "sysctl vm.overcommit_memory=0",
        )
        return
    names = {0: "0 (heuristic)", 1: "1 (always)"}
    found = "not known" if mode is None else names.get(mode, str(mode))
    yield Row("vm.overcommit_memory", found, OK, "memory counts when it is touched")


def shared_memory(system: System) -> Iterator[Row]:
    try:
        room = os.statvfs(system.root + "/dev/shm")  # noqa: S108
    except OSError as error:
        found = f"not there ({error.strerror})"
        total = 0
    else:
        total = room.f_frsize * room.f_blocks
        found = f"{amount(total)}, {amount(room.f_frsize * room.f_bavail)} free"
    yield Row(
        "/dev/shm",
        found,
        NOTE if total <= 64 << 20 else OK,
        "stores do not use it; torch's DataLoader does, to send batches from its workers",
        "docker run --shm-size=8g, or an emptyDir of medium Memory" if total <= 64 << 20 else "",
    )


CHECKS = (
    memory_limit, address_space, memlock, huge_pages, transparent_huge_pages, mappings, overcommit, shared_memory,
)  # fmt: skip
