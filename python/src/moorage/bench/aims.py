"""The aims, each judged by what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from . import machine
from .cases import MANY, WINDOW
from .measured import Measured
from .peers import lmdb
from .peers.peer import HAND

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Verdict:
    """A figure, and whether it meets the aim; None: it could not be judged."""

    text: str
    met: bool | None


@dataclass(frozen=True)
class Aim:
    what: str
    limit: str
    where: str
    """What measures it."""
    judge: Callable[[Measured], Verdict | None]
    """None: it was not measured in this run."""
    why: str = ""
    """Where it is missed: what is known of the reason, and what would close the gap."""


@dataclass(frozen=True)
class Judged:
    what: str
    limit: str
    text: str
    verdict: str
    """met, missed or not measured"""
    why: str = ""
    """Of a miss."""


_HERE, _GO, _C = "moorage bench", "go test -bench", "the C benchmarks"


def _at_most(limit: float, figure: float | None, form: str) -> Verdict | None:
    return None if figure is None else Verdict(form.format(figure), figure <= limit)


def _worst_ratio(case: str, limit: float, smallest: int = 0) -> Callable[[Measured], Verdict | None]:
    def judge(m: Measured) -> Verdict | None:
        return _at_most(limit, max(m.ratios(case, smallest), default=None), "{:.2f} x at worst")

    return judge


def _flat(case: str, limit: float) -> Callable[[Measured], Verdict | None]:
    def judge(m: Measured) -> Verdict | None:
        return _at_most(limit, m.flat[case].ratio if case in m.flat else None, "{:.2f} x")

    return judge


def _clean(m: Measured) -> Verdict | None:
    views = [r.timed.case for case in ("get_tensor view", "get_array", "get_buffer") for r in m.of(case)]
    if not views:
        return None
    copied, faults = max(v.copied or 0 for v in views), max(v.faults for v in views)
    return Verdict(f"{copied:.0f} bytes, {faults:.4f} page faults", copied == 0 and faults < 0.01)


def _small_put(m: Measured) -> Verdict | None:
    more = [(r.timed.case.mean - r.timed.floor.mean) / 1e3 for r in m.of("put_tensor", 0, 256 * KIB - 1)]
    return _at_most(4, max(more, default=None), "+ {:.1f} us at worst")


def _put_speed(smallest: int, largest: int, least: float, cores: int) -> Callable[[Measured], Verdict | None]:
    def judge(m: Measured) -> Verdict | None:
        results = list(m.of("put_tensor", smallest, largest))
        if not results:
            return None
        slowest = max(results, key=lambda r: r.timed.ratio)
        text = f"{1 / slowest.timed.ratio:.2f} x at worst"
        met = 1 / slowest.timed.ratio >= least
        if not met and cores > 1 and (slowest.second_core or 0) < machine.FREE:
            return Verdict(f"{text}, but the second core is busy (probe {slowest.second_core or 0:.2f})", None)
        return Verdict(text, met)

    return judge


def _footprint(name: str, limit: float, form: str) -> Callable[[Measured], Verdict | None]:
    def judge(m: Measured) -> Verdict | None:
        return _at_most(limit, getattr(m.footprint, name, None), form)

    return judge


def _memory(m: Measured) -> Verdict | None:
    f = m.footprint
    if f is None:
        return None
    return Verdict(f"{f.private_mib:.1f} MiB ({f.dirty_mib:.1f} of them written to)", f.private_mib <= 12)


def _elsewhere(benchmark: str, unit: str, limit: float, form: str) -> Callable[[Measured], Verdict | None]:
    def judge(m: Measured) -> Verdict | None:
        return _at_most(limit, m.elsewhere.get(benchmark, {}).get(unit), form)

    return judge


def _rate(m: Measured) -> Verdict | None:
    one = m.elsewhere.get("BenchmarkGetReleaseCores", {}).get("one-ns")
    allocated = m.elsewhere.get("BenchmarkGetRelease/one", {}).get("allocs/op")
    if one is None or allocated is None:
        return None
    return Verdict(f"{1e3 / one:.1f} M/s, {allocated:.0f} allocations", 1e3 / one >= 10 and allocated == 0)


def _two_cores(m: Measured) -> Verdict | None:
    found = m.elsewhere.get("BenchmarkGetReleaseCores", {})
    if "x-one-core" not in found:
        return None
    text, gained, probe = f"{found['x-one-core']:.2f} x", found["x-one-core"], found.get("x-probe", 0)
    if gained < 1.7 and probe < machine.FREE:
        return Verdict(f"{text}, but the second core is busy (probe {probe:.2f})", None)
    return Verdict(text, gained >= 1.7)


def _p99(m: Measured) -> Verdict | None:
    few = m.elsewhere.get("BenchmarkObjects/10000", {}).get("p99-ns")
    many = m.elsewhere.get("BenchmarkObjects/10000000", {}).get("p99-ns")
    return Verdict(f"{many / few:.2f} x", many <= 2 * few) if few and many else None


def _against_lmdb(m: Measured) -> Verdict | None:
    if m.peers is None:
        return None
    found = [one.times or 0 for one in m.peers.of((lmdb.RENEWED, lmdb.STAYS), HAND)]
    return Verdict(f"{min(found):.2f} x as fast at worst", min(found) > 1) if found else None


def _adopt(m: Measured) -> Verdict | None:
    return _at_most(0.2, max(m.ratios("adopt", 64 * MIB, 64 * MIB), default=None), "{:.2f} x")


def _snapshot(m: Measured) -> Verdict | None:
    return _at_most(20, max((r.timed.case.mean / 1e6 for r in m.of(f"snapshot of {MANY}")), default=None), "{:.1f} ms")


def _look_up(m: Measured) -> Verdict | None:
    more = [(r.timed.case.mean - r.timed.floor.mean) / 1e3 for r in m.of("snapshot look-up view")]
    return _at_most(1, max(more, default=None), "+ {:.2f} us at worst")


_TEN_MILLION = "BenchmarkObjects/10000000"
_TWO_STREAMS = (
    "two threads gain what the memory has left for a second stream; where one thread already takes most of it, or the "
    "bytes lie in the cache, there is less to gain."
)

AIMS = [
    Aim(
        'get_tensor(mode="view"), any size', "<= 1.3 x torch.from_dlpack", _HERE, _worst_ratio("get_tensor view", 1.3),
        "the builtin itself costs about what the floor does; the rest is the Python method in front of it, with its "
        "keyword argument.",
    ),
    Aim('get_tensor(mode="view"), 1 GiB', "<= 1.1 x 4 KiB", _HERE, _flat("get_tensor view", 1.1)),
    Aim("get_tensor against LMDB", "faster at every size", f"{_HERE} --peers", _against_lmdb),
    Aim(
        "get_tensor, default mode", "<= 1.5 x (mmap + munmap + torch.from_dlpack)", _HERE,
        _worst_ratio("get_tensor cow", 1.5, WINDOW),
    ),
    Aim("get_tensor, default mode, 1 GiB", "<= 1.3 x 64 KiB", _HERE, _flat("get_tensor cow", 1.3)),
    Aim("bytes copied, page faults per view", "0, < 0.01", _HERE, _clean),
    Aim("view, then one copy, from 16 MiB", "<= 1.1 x a copy", _HERE, _worst_ratio("get + read view", 1.1, 16 * MIB)),
    Aim(
        "cow, then one copy, from 16 MiB", "<= 1.5 x a copy", _HERE, _worst_ratio("get + read cow", 1.5, 16 * MIB),
        "a new window has no page table: the kernel fills it at the first read, 64 KiB a fault. "
        'mode="view" reads through the mapping that is there.',
    ),
    Aim(
        "get_array", "<= 1.3 x numpy.from_dlpack", _HERE, _worst_ratio("get_array", 1.3),
        "numpy takes a ready capsule in so little time that the look-up and the count of the view weigh more than "
        "they do beside torch.",
    ),
    Aim(
        "moor_get_buffer + release from C", "<= 2 x one call from C to Go", _C,
        _elsewhere("BenchmarkC/get_buffer", "x-crossing", 2, "{:.2f} x"),
        "beside the crossing it pays for one malloc, the shard's read lock and the atomics of a view.",
    ),
    Aim(
        "Get + Release in Go, one core", ">= 10 M/s, no allocation", _GO, _rate,
        "atomic operations, each of which waits for the one before: four on the shard (call gate, read lock) and two "
        "on the cell.",
    ),
    Aim("Get + Release in Go, two cores", ">= 1.7 x one core", _GO, _two_cores),
    Aim("batch of 128 views", "<= 1.1 x 128 torch.from_dlpack", _HERE, _worst_ratio("batch get view", 1.1)),
    Aim(f"a snapshot of {MANY} tensors", "<= 20 ms", _HERE, _snapshot),
    Aim("a look-up in it", "<= torch.from_dlpack + 1 us", _HERE, _look_up),
    Aim("put_tensor below 256 KiB", "<= memcpy + 4 us", _HERE, _small_put),
    Aim(
        "put_tensor, 1 MiB", ">= 0.9 x memcpy", _HERE, _put_speed(MIB, MIB, 0.9, 1),
        "key, record and extent cost the same at every size; at 1 MiB the copy is only just long enough to hide them.",
    ),
    Aim("put_tensor, 2 to 16 MiB", ">= 1.6 x memcpy", _HERE, _put_speed(2 * MIB, 16 * MIB, 1.6, 2), _TWO_STREAMS),
    Aim("put_tensor, above", ">= 1.35 x memcpy", _HERE, _put_speed(16 * MIB + 1, 1 << 62, 1.35, 2), _TWO_STREAMS),
    Aim(
        "adopt, 64 MiB", "<= 0.2 x memcpy", _HERE, _adopt,
        "this kernel cannot move page tables of shared memory (Linux 5.13), or RLIMIT_AS is set: then it is the price "
        "of mprotect on 16384 entries.",
    ),
    Aim("10 M objects, key of 40 bytes", "<= 180 B each", _GO, _elsewhere(_TEN_MILLION, "B/object", 180, "{:.0f} B")),
    Aim("a shape of 4 dimensions", "<= 40 B more", _GO, _elsewhere("BenchmarkShape", "B/shape", 40, "{:.0f} B")),
    Aim(
        "get p99 at 10 M objects", "<= 2 x that at 10 k", _GO, _p99,
        "two dependent cache misses, slot and record, that 10 k objects do not have.",
    ),
    Aim("Go's collector at 10 M objects", "< 1 % of the CPU", _GO, _elsewhere(_TEN_MILLION, "%gc", 1, "{:.2f} %")),
    Aim(
        "fork with 10 M objects", "+ <= 0.2 ms", _C, _elsewhere("BenchmarkC/fork", "ms-more", 0.2, "+ {:.3f} ms"),
        "nothing of the store is copied, but the kernel passes over every mapping of its index, and Go's heap has "
        "grown to its first collection. Index memory in fewer mappings would help.",
    ),
    Aim(
        "import moorage", "<= 30 ms", _HERE, _footprint("import_ms", 30, "{:.1f} ms"),
        "most of it is the standard library (`python -X importtime -c 'import moorage'` lists it); on a slow or busy "
        "machine `import ctypes` takes longer too.",
    ),
    Aim("first Store()", "<= 20 ms", _HERE, _footprint("open_ms", 20, "{:.1f} ms")),
    Aim("threads", "<= 8", _HERE, _footprint("threads", 8, "{}")),
    Aim("private memory", "<= 12 MiB", _HERE, _memory),
    Aim("close() with a million objects", "<= 10 ms", _HERE, lambda m: _at_most(10, m.close_ms, "{:.1f} ms")),
]  # fmt: skip


def judge(measured: Measured) -> list[Judged]:
    """Every aim with what was measured."""
    judged = []
    for aim in AIMS:
        verdict = aim.judge(measured)
        if verdict is None:
            judged.append(Judged(aim.what, aim.limit, f"by {aim.where}", "not measured"))
        else:
            word = {True: "met", False: "missed", None: "not measured"}[verdict.met]
            judged.append(Judged(aim.what, aim.limit, verdict.text, word, aim.why if verdict.met is False else ""))
    return judged
