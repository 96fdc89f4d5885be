"""The report: what was measured on what, the four levels, and what has to be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from ..._table import Table
from ..._table import size as bytes_
from . import dedup
from .distributions import PERCENTILES, label
from .figures import GIB, TIERS
from .flags import UNOFFICIAL
from .planning import Plan

_OTHERS = 1.2
"""So much more than was delivered is no rounding to blocks."""
_P = [label(p) for p in PERCENTILES]
_COLUMNS = ("", "n", *(f"p{p:g}" for p in PERCENTILES), "max", "mean")


def number(value: float | None, digits: int = 3) -> str:
    """Too few samples: a dash."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def _ms(title: str, one: dict[str, Any]) -> Sequence[str]:
    return (title, str(one["n"]), *(number(one[p]) for p in _P), number(one["max"]), number(one["mean"]))


def tables(plan: Plan, content: dict[str, Any]) -> list[Table]:
    chosen = content["trials"][content["summary_of_trial"]]
    found, facts = chosen["figures"], chosen["facts"]
    shown = [_what(plan, content, facts), _levels(found), _bandwidth(found), _cost(found, facts)]
    if found["sizes"]:
        shown.append(_sizes(found))
    if content["dedup"]:
        shown.append(_dedup(content["dedup"]))
    if content["fio"]["job"].strip():
        shown += _fio(content["fio"])
    if len(content["trials"]) > 1:
        shown.append(_trials(content))
    shown.append(Table("What to make of it", ("",), [(text,) for text in verdicts(plan, content)]))
    return shown


def title(plan: Plan, content: dict[str, Any]) -> str:
    """One line that can be quoted without misleading anybody."""
    trials = len(content["trials"])
    scale = "" if plan.options.scale == 1 else f", --scale {plan.options.scale:g}"
    how = f"{trials} trials" if trials >= 3 else f"{trials} trial: quick, not comparable"
    where = "memory, not storage" if plan.place.memory else plan.place.title
    return f"KV cache of {plan.model.name}, {plan.options.num_users} users{scale}, on {where} ({how}; {UNOFFICIAL})"


def comparison(plan: Plan, head: dict[str, Any]) -> Table:
    """What stands above a comparison."""
    env = head["environment"]
    rows: list[Sequence[str]] = [
        ("device", env["device"]),
        ("file system", f"{env['file_system']} ({env['mount_options']})"),
        ("model", f"{plan.model.name}, {plan.model.bytes_per_token:,} bytes per token"),
        ("machine", f"{env['cpu']}, {env['cores']} cores, {bytes_(env['memory_bytes'])}, load {env['load']:.1f}"),
        ("command", head["command"]),
    ]
    scale = "" if plan.options.scale == 1 else f" (--scale {plan.options.scale:g})"
    return Table(f"Paths compared{scale}; {UNOFFICIAL}", ("", ""), rows, left=2)


def _what(plan: Plan, content: dict[str, Any], facts: dict[str, Any]) -> Table:
    cold, path = facts.get("cold", {}), facts["path"]
    env = content["environment"]
    rows: list[Sequence[str]] = [
        ("device", env["device"]),
        ("file system", f"{env['file_system']} ({env['mount_options']}), {env['fill_level']:.0%} full"),
        ("cold", _cold(cold)),
        ("path", f"{path['name']}: {path['copies']} CPU copies for each byte read"),
        ("device is", f"reads: {path['read']}; writes: {path['write']}"),
        ("", "block layer, file system and the delay until completion is seen are in it"),
        ("model", f"{plan.model.name}, {plan.model.bytes_per_token:,} bytes per token"),
        (
            "schedule",
            f"{plan.schedule.name}: {len(plan.schedule.requests)} requests, {content['schedule']['sha256'][:16]}",
        ),
        (
            "working set",
            f"{plan.needs.objects / GIB:.2f} GiB, on disk before the run {plan.needs.before / GIB:.2f} GiB",
        ),
        ("tiers", ", ".join(f"{name} {bytes_(size)} in memory" for name, size in plan.tiers) or "storage only"),
        ("preconditioned", _preconditioned(content["preconditioned"])),
        ("settled", _settled(facts)),
        ("workers", f"{plan.rules.workers}, arrivals: {plan.options.arrival}"),
        ("machine", f"{env['cpu']}, {env['cores']} cores, {bytes_(env['memory_bytes'])}, load {env['load']:.1f}"),
        ("clock", f"{env['stamp_ns']:.0f} ns a stamp, four stamps an operation"),
        ("command", content["command"]),
    ]
    return Table(title(plan, content), ("", ""), rows, left=2)


def _preconditioned(one: dict[str, Any] | None) -> str:
    if one is None:
        return "no"
    text = f"{one['gib']:.1f} GiB, {'steady' if one['steady'] else 'NOT steady'}, {number(one['gib_per_s'][-1])} GiB/s"
    if one.get("reused"):
        since = one["written_since_bytes"]
        written = "an unknown amount" if since is None else bytes_(since)
        text += f"; kept, {one['age_s'] / 3600:.1f} hours old, {written} written to the device since, by anybody"
    elif one["kept"]:
        text += f"; {one['gib_kept']:g} GiB stay for the next run"
    return text


def _settled(facts: dict[str, Any]) -> str:
    one = facts.get("settled")
    if one is None:
        return "-"
    text = f"after {one['seconds']:.1f} s, {bytes_(one['discarded_bytes'])} discarded meanwhile"
    return text if one["quiet"] else text + "; NOT at rest: discards went on"


def _cold(cold: dict[str, Any]) -> str:
    if not cold:
        return "-"
    words = [cold["verdict"]]
    if cold["agreement"] is not None:
        words.append(f"the device read {cold['agreement']:.2f} x what was delivered from storage")
    if cold.get("device_ms_per_read") is not None:
        words.append(f"{number(cold['device_ms_per_read'])} ms for each of its own reads")
    if cold["sampled_in_page_cache"] is not None:
        words.append(f"{cold['sampled_in_page_cache']:.1%} of what was looked at lay in the page cache")
    return "; ".join(words)


def _levels(found: dict[str, Any]) -> Table:
    """L1 and L2 are of requests, L3 and L4 of operations: whole objects, whatever their size."""
    requests = found["requests"]
    rows: list[Sequence[str]] = [
        _ms("L1 end to end, from its intended arrival", requests["end_to_end"]),
        _ms("   of it queued", requests["queued"]),
        _ms("L2 storage, operations added up", requests["storage_sum"]),
        _ms("   wall time with at least one", requests["storage_wall"]),
    ]
    for tier in TIERS:
        for kind in ("read", "write"):
            one = found["operations"][kind][tier]
            if one["operations"]:
                rows.append(_ms(f"L3 {tier} {kind}", one["total"]))
                if tier == "storage":
                    rows += [_ms(f"L4 {kind} device", one["device"]), _ms(f"L4 {kind} host", one["host"])]
                    rows += [_ms(f"   of it {part}", one[part]) for part in ("copy", "verify") if one[part]["sum"]]
                    rows += [_ms("   copy probe, in no other figure", one["probe"])] if one["probe"]["sum"] else []
    if found["evictions"]["operations"]:
        rows.append(_ms("L3 eviction writes", found["evictions"]["total"]))
    return Table(
        "Latency in ms (-: fewer than ten samples beyond it; rows do not add up, their sums do)", _COLUMNS, rows
    )


def _bandwidth(found: dict[str, Any]) -> Table:
    rows: list[Sequence[str]] = []
    for tier in TIERS:
        for kind in ("read", "write"):
            one = found["operations"][kind][tier]
            if one["operations"]:
                rows.append(
                    (
                        f"{tier} {kind}", str(one["operations"]), f"{one['bytes'] / GIB:.3f}", number(one["gib_per_s"]),
                        number(one["gb_per_s"]), number(one["iops"]), number(one["busy_gib_per_s"]),
                        number(one["mean_depth"]),
                    )
                )  # fmt: skip
    columns = (
        "completed in the window",
        "n",
        "GiB",
        "GiB/s",
        "GB/s",
        "operations/s",
        "GiB/s of one operation",
        "depth",
    )
    return Table(f"Bandwidth, over {found['seconds']:.2f} s", columns, rows)


def _cost(found: dict[str, Any], facts: dict[str, Any]) -> Table:
    usage, tokens = facts.get("usage", {}), found["tokens"]
    late = found["in_flight_at_end"]
    requests = found["requests"]
    looked = requests["hits"] + requests["misses"]
    rows: list[Sequence[str]] = [
        ("CPU seconds for each GiB", number(usage.get("cpu_s_per_gib"))),
        ("CPU seconds of making data, not in it", number(usage.get("data_generation_cpu_s"))),
        ("page faults for each operation, minor / major",
         f"{number(usage.get('minor_faults_per_operation'))} / {number(usage.get('major_faults_per_operation'))}"),
        _bus(facts),
        ("peak memory", bytes_(usage.get("peak_rss_bytes", 0))),
        ("generated tokens, per second of wall time", number(tokens["generated_per_wall_s"])),
        ("tokens served from the cache, per second of wall time", number(tokens["served_from_cache_per_wall_s"])),
        ("generated tokens, per second that requests waited for storage", number(tokens["generated_per_storage_s"])),
        ("requests done, per second", f"{requests['done']}, {number(requests['per_s'])}"),
        ("hits", f"{requests['hits']} of {looked}"),
        *(
            (
                f"{qos}: within {one['target_ms']:g} ms, of {one['n']} requests",
                f"{one['within']:.0%}{'' if one['met'] else ', missed'}",
            )
            for qos, one in requests["by_qos"].items()
        ),
        ("an object is read by decoding, times", number(found["amplification"]["factor"])),
        ("in flight when the window ended, not counted", f"{late['operations']}, {bytes_(late['bytes'])}"),
        ("requests begun and not done / never begun",
         f"{facts.get('unfinished_requests', 0)} / {facts.get('waiting_requests', 0)}"),
    ]  # fmt: skip
    return Table("Cost and work", ("", ""), rows)


def _bus(facts: dict[str, Any]) -> tuple[str, str]:
    moved, usage = facts.get("memory_bus"), facts.get("usage")
    if not moved or not usage:
        return "memory bus", "-"
    if moved["lacking"]:
        return "memory bus: not counted", moved["lacking"]
    both = moved["read_bytes"] + moved["written_bytes"]
    rates = (number(moved[name] / GIB / usage["wall_s"]) for name in ("read_bytes", "written_bytes"))
    each = number(both / usage["bytes"]) if usage["bytes"] else "-"
    return "memory bus, everybody's GiB/s, read / written", f"{' / '.join(rates)}: {each} bytes for each byte"


def _sizes(found: dict[str, Any]) -> Table:
    rows: list[Sequence[str]] = [
        (
            f"{one['kind']} {one['class']}", str(one["operations"]), bytes_(one["smallest"]), bytes_(one["median"]),
            bytes_(one["largest"]), number(one["total"]["mean"]), number(one["device"]["mean"]),
            number(one["host"]["mean"]), _share(one),
            number(one["total"]["sum"] / (one["bytes"] / (1 << 20))),
        )
        for one in found["sizes"]
    ]  # fmt: skip
    columns = (
        "storage, by size", "n", "least", "median", "most", "mean ms", "device", "host", "host share",
        "ms for each MiB",
    )  # fmt: skip
    return Table("Sizes: a latency is that of a whole object", columns, rows)


def _share(one: dict[str, Any]) -> str:
    return f"{one['host']['sum'] / one['total']['sum']:.1%}" if one["total"]["sum"] else "-"


def _dedup(found: dict[str, Any]) -> Table:
    kinds, run = found["kinds"], found["run"]
    rows: list[Sequence[str]] = [
        (
            one["means"], number(median(one["write"])), f"{dedup.ratio(kinds, kind, 'write'):.2f} x",
            number(median(one["read"])), f"{dedup.ratio(kinds, kind, 'read'):.2f} x", f"{median(one['allocated']):.0%}",
        )
        for kind, one in kinds.items()
    ]  # fmt: skip
    ours = f"of this run: {run['different']} of {run['pages']} pages differ, compressed to {run['compressed_to']:.0%}"
    rows.append((ours, *["-"] * 5))
    how = "O_DIRECT" if found["direct"] else "through the page cache"
    columns = (f"{bytes_(found['bytes'])}, {how}", "written GiB/s", "", "read GiB/s", "", "takes")
    return Table(f"Does the device save itself work? {found['verdict']}", columns, rows)


def _fio(fio: dict[str, Any]) -> list[Table]:
    """One operation beside one job: equal depth, whatever the load was."""
    jobs = [section.splitlines() for section in fio["job"].strip().split("\n\n")]
    lines: list[Sequence[str]] = [(name.strip("[]"), " ".join(options)) for name, *options in jobs]
    if fio["lacking"]:
        return [Table("The same by fio: not run", ("", ""), [("why", fio["lacking"]), *lines], left=2)]
    rows: list[Sequence[str]] = [
        (
            kind, number(one["in_flight"]), str(fio["ran"][kind]["jobs"]), number(one["gib_per_s_of_one"]),
            number(one["fio_gib_per_s_of_one"]), "-" if one["of_fio"] is None else f"{one['of_fio']:.0%}",
            number(fio["ran"][kind]["gib_per_s"]),
        )
        for kind, one in fio["beside"].items()
    ]  # fmt: skip
    columns = ("storage", "in flight", "jobs", "GiB/s of one operation", "of one job", "of fio", "GiB/s of all jobs")
    return [Table("The same by fio", columns, rows), Table("Its jobs", ("", ""), lines, left=2)]


def _trials(content: dict[str, Any]) -> Table:
    rows: list[Sequence[str]] = []
    for name, one in content["headlines"].items():
        if one is None:
            rows.append((name, *["-"] * 5))
            continue
        low, high = one["interval"] or (None, None)
        cv = "-" if one["cv"] is None else f"{one['cv']:.0%}"
        rows.append(
            (
                name,
                number(one["median"]),
                number(one["min"]),
                number(one["max"]),
                cv,
                f"{number(low)} to {number(high)}",
            )
        )
    columns = ("", "median", "least", "most", "CV", "95 % interval of the median")
    return Table(f"{len(content['trials'])} trials", columns, rows)


def verdicts(plan: Plan, content: dict[str, Any]) -> list[str]:
    """Sentences, the gravest first."""
    chosen = content["trials"][content["summary_of_trial"]]
    found, facts = chosen["figures"], chosen["facts"]
    said = [f"FAILED: {error}" for trial in content["trials"] for error in trial["facts"].get("errors", [])[:3]]
    if plan.place.memory:
        said.append("The directory lies in memory: nothing here says anything about storage.")
    if facts.get("cold", {}).get("verdict") == "cache_contaminated":
        said.append("cache_contaminated: a part of the reads came from the page cache, not from the device.")
    looked = content["dedup"]
    if looked and looked["verdict"] != dedup.NONE:
        said.append(f"{looked['verdict'].capitalize()}: this run's data has nothing of it, other data may be faster.")
    agreement = facts.get("cold", {}).get("agreement")
    if agreement is not None and agreement > _OTHERS:
        said.append(
            f"The device read {agreement:.1f} x what was delivered: others read from it too, or it reads ahead."
        )
    if len(content["trials"]) < 3:
        said.append("Quick, not comparable: one trial has no interval. --trials 3 gives medians and intervals.")
    if found["seconds"] < 10:
        said.append(f"A window of {found['seconds']:.1f} s is short: percentiles and bandwidths of it vary a lot.")
    said += [f"{name} varies by {one['cv']:.0%} between trials." for name, one in content["headlines"].items()
             if one and one["cv"] and one["cv"] > 0.1]  # fmt: skip
    if plan.options.scale != 1:
        said.append(f"Objects have {plan.options.scale:g} of their tokens: compare only with the same --scale.")
    if facts["path"].get("cached") and plan.needs.objects < content["environment"]["memory_bytes"]:
        said.append(
            "This path goes through the page cache, and all objects would fit into memory: whether reads were cold all "
            "the same is what the line above is for."
        )
    if facts["path"].get("found_in_memory"):
        said.append(
            f"{facts['path']['found_in_memory']} operations found their object in the store's memory: they are cpu. "
            "--decode-only and --backend direct read from the device."
        )
    if facts.get("schedule_exhausted") and found["seconds"] < 0.9 * plan.options.duration:
        said.append("All requests were done before the time was up.")
    storage = sum(found["operations"][kind]["storage"]["operations"] for kind in ("read", "write"))
    if storage == 0:
        said.append("Nothing reached storage: the tiers in memory hold all of it (--cpu-mem-gb, --gpu-mem-gb).")
    said.append("Bottleneck: " + bottleneck(found, facts))
    return said


def bottleneck(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """What the run waited for, as far as these figures can tell."""
    usage, cold = facts.get("usage"), facts.get("cold")
    if not usage or not cold:
        return "nothing was measured"
    busy = usage["cpu_s"] / usage["wall_s"] / usage["cores"]
    if busy > 0.85:
        return f"the processor ({busy:.0%} of all cores were in use; what storage could give is not seen)"
    storage = sum(found["operations"][kind]["storage"]["total"]["sum"] for kind in ("read", "write"))
    asleep = found["requests"]["generation"]["sum"]
    if asleep > storage and facts.get("waiting_requests"):
        return "simulated generation (--generation-mode): workers slept longer than they waited for storage"
    flying, queue = storage / 1000 / found["seconds"], cold.get("device_queue")
    if flying >= 1 and queue is not None and queue >= 1:
        return (
            f"the device ({queue:.1f} requests, of everybody, were with it on average; {busy:.0%} of the cores in use)"
        )
    return f"the load: {flying:.1f} operations at a time fill neither device nor cores ({busy:.0%} used)"
