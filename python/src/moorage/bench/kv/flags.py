"""The command line: every flag has an effect, or is refused with a reason."""

from __future__ import annotations

import argparse
from typing import Any

from ...errors import InvalidArgumentError
from . import arrivals
from .models import MODELS

UNOFFICIAL = "unofficial; workload modelled on MLPerf Storage v3.0 KV cache"

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "model": "tiny-1b", "num_users": 8, "duration": 5.0, "gpu_mem_gb": 0.0, "cpu_mem_gb": 0.0,
        "generation_mode": "none", "scale": 1 / 16, "decode_only": True, "seed": 42,
    },
    "mlperf-1": {
        "model": "llama3.1-8b", "num_users": 200, "duration": 300.0, "gpu_mem_gb": 0.0, "cpu_mem_gb": 0.0,
        "max_concurrent_allocs": 16, "generation_mode": "none", "seed": 42, "trials": 3,
    },
    "mlperf-2": {
        "model": "llama3.1-8b", "num_users": 100, "duration": 300.0, "gpu_mem_gb": 0.0, "cpu_mem_gb": 4.0,
        "max_concurrent_allocs": 16, "generation_mode": "none", "seed": 42, "trials": 3,
    },
    "mlperf-3": {
        "model": "llama3.1-70b-instruct", "num_users": 70, "duration": 300.0, "gpu_mem_gb": 0.0, "cpu_mem_gb": 0.0,
        "max_concurrent_allocs": 4, "generation_mode": "none", "seed": 42, "trials": 3,
    },
}  # fmt: skip

_SIZED = ("model", "model_shape", "num_users", "duration", "gpu_mem_gb", "cpu_mem_gb", "preset", "scale")
"""With none of these the quick preset is taken."""

_DEFAULTS: dict[str, Any] = {
    "model": "llama3.1-8b", "num_users": 100, "duration": 60.0, "gpu_mem_gb": 16.0, "cpu_mem_gb": 32.0,
    "generation_mode": "realistic", "max_concurrent_allocs": 0, "scale": 1.0,
}  # fmt: skip

_NO_SCALING = "a count of users that changes no concurrency would be no scaling, and there is none here"
_REFUSED = {
    "enable_autoscaling": _NO_SCALING,
    "autoscaler_mode": _NO_SCALING,
    "target_saturation": _NO_SCALING,
    "enable_latency_tracing": "the kernel's own counters of the device stand in every result; "
    "for a histogram of the block layer run a tracer beside this",
}


_ONLY_WITH = {
    "compare_gib": "compare", "compare_tmpfs": "compare", "compare_threads": "compare",
    "precondition_size_gb": "precondition", "precondition_threads": "precondition",
    "precondition_keep": "precondition", "bundle": "output",
    "rag_num_docs": "enable_rag", "burst_trace_path": "use_burst_trace", "max_conversations": "dataset_path",
}  # fmt: skip
"""A flag that means nothing without another."""

_FIGURES_OF_A_RUN = ("csv", "xlsx_output", "upstream")
_LIMITS = ("slo_read_p95", "slo_write_p95", "performance_profile", "validation_trace")
_HOW = ("precondition", "dedup_check", "warmup", "backend", "store_verify", "copy_probe")
_NOT_WITH = {
    "ranks": (
        *_FIGURES_OF_A_RUN, "compare", "plot", "bundle", "record_trace", "io_trace_log", "precondition_keep",
        "dedup_check",
    ),
    "compare": (*_FIGURES_OF_A_RUN, *_LIMITS, *_HOW, "io_trace_log"),
    "io_trace_log": (*_FIGURES_OF_A_RUN, *_LIMITS, *_HOW, "output", "plot", "record_trace"),
}  # fmt: skip
"""Flags that would do nothing beside another."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="moorage kv-bench",
        description=f"Reads and writes the KV cache of simulated users ({UNOFFICIAL}). Without any flag: some seconds "
        "with small objects. `moorage kv-bench verify RESULT.json` computes a result again from its records.",
        allow_abbrev=False,
    )
    _workload(made.add_argument_group("workload"))
    _where(made.add_argument_group("where the objects go"))
    _load(made.add_argument_group("load"))
    _replay(made.add_argument_group("replay"))
    _measure(made.add_argument_group("measuring"))
    _output(made.add_argument_group("output"))
    _without_sense(made.add_argument_group("of the original, without sense here"))
    return made


def _number(least: float, most: float, whole: bool = False) -> Any:
    def number(text: str) -> float:
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if whole else ''}number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    return number


def _count(least: int, most: int = 10**9) -> Any:
    return _number(least, most, whole=True)


_POSITIVE = _number(0, 10**9)


def _workload(group: Any) -> None:
    add = group.add_argument
    add(
        "--preset",
        choices=sorted(PRESETS),
        help="mlperf: shapes of the official options, 200, 100 and 70 users for 300 s; quick: some seconds of reads",
    )
    add("--scale", type=_number(1e-6, 1), metavar="X", help="tokens of every object, and the tiers in memory, times X")
    add("--model", choices=sorted(MODELS), metavar="NAME", help=", ".join(sorted(MODELS)))
    add("--model-shape", metavar="TEXT", help="another model: layers=32,heads=8,dim=128, or layers=61,latent=576")
    add("--num-users", type=_count(1, 100_000), metavar="N")
    add("--duration", type=_number(0.1, 86_400), metavar="S", help="measured seconds")
    add("--generation-mode", choices=("none", "fast", "realistic"), help="0, 2 or 30 ms of sleep for each token")
    add("--disable-multi-turn", action="store_true")
    add("--disable-prefix-caching", action="store_true")
    add("--enable-rag", action="store_true")
    add("--rag-num-docs", type=_count(1), default=10, metavar="N")
    phases = group.add_mutually_exclusive_group()
    phases.add_argument("--prefill-only", action="store_true")
    phases.add_argument("--decode-only", action="store_true", default=None)
    add(
        "--decode-reads",
        type=_count(0, 100_000),
        metavar="N",
        help="full reads of a request's object; default: answer / 32",
    )
    add("--blocks", type=_count(0, 1 << 20), default=0, metavar="TOKENS", help="objects of so many tokens; 0: a prompt")
    add(
        "--tensor-parallel", type=_count(1, 1024), default=1, metavar="N", help="stores one rank's share of each object"
    )
    add("--seed", type=_count(0, 2**63 - 1), help="default 42")
    add("--config", metavar="YAML", help="changes templates, QoS, prefixes, RAG, conversations, models")


def _where(group: Any) -> None:
    add = group.add_argument
    add("--cache-dir", metavar="DIR", help="objects go to a folder of their own in it; nothing else there is touched")
    add("--storage-capacity-gb", type=_POSITIVE, default=0.0, metavar="GIB", help="0: 95 %% of what is free")
    add("--gpu-mem-gb", type=_POSITIVE, metavar="GIB", help="a tier for each card, simulated in host memory")
    add("--num-gpus", type=_count(1, 1024), default=1, metavar="N")
    add("--cpu-mem-gb", type=_POSITIVE, metavar="GIB")
    add(
        "--backend",
        default="auto",
        metavar="PATH",
        help="moorage, direct, mmap, buffered, legacy1 (np.load), legacy2 (np.load and np.array)",
    )
    add("--store-verify", action="store_true", help="moorage compares checksums on every read")


def _load(group: Any) -> None:
    add = group.add_argument
    add("--arrival", choices=arrivals.ALL, help="users: as they think; closed: as fast as workers are free; or a rate")
    add("--request-rate", type=_POSITIVE, default=0.0, metavar="PER_S", help="with fixed, poisson or gamma arrivals")
    add("--arrival-cv", type=_number(0.01, 100), default=1.0, metavar="X", help="gaps of gamma arrivals")
    add("--workers", type=_count(1, 500), metavar="N", help="default: as many as users, 500 at most")
    add("--max-requests", type=_count(0), default=0, metavar="N")
    add("--max-concurrent-allocs", type=_count(0, 100_000), metavar="N", help="writers at a time; 0 is without limit")


def _replay(group: Any) -> None:
    add = group.add_argument
    add("--use-burst-trace", action="store_true", help="arrivals and lengths from BurstGPT files")
    add("--burst-trace-path", default="BurstGPT/data/BurstGPT_1.csv", metavar="FILE", help="a file, a folder or a glob")
    add("--dataset-path", metavar="JSON", help="conversations in the form of ShareGPT")
    add("--max-conversations", type=_count(1), default=500, metavar="N")
    add(
        "--hash-trace", metavar="JSONL", help="timestamp, input_length, output_length, hash_ids of blocks of 512 tokens"
    )
    add("--trace-speedup", type=_POSITIVE, default=1.0, metavar="X", help="0: no pauses")
    add("--replay-cycles", type=_count(0), default=0, metavar="N", help="0: until the time is up")
    add("--record-trace", metavar="FILE", help="writes the schedule")
    add("--replay-trace", metavar="FILE", help="a schedule that was written so")
    add("--io-trace-log", metavar="CSV", help="no I/O: writes what would have been done")
    add("--validation-trace", metavar="JSON", help="its cache_hit_rate must be met within 5 %%")


def _measure(group: Any) -> None:
    add = group.add_argument
    add("--trials", type=_count(1, 1000), metavar="N", help="default 1, which is comparable with nothing; presets 3")
    add("--warmup", type=_POSITIVE, default=0.0, metavar="S", help="seconds before the window")
    add("--ranks", type=_count(1, 256), default=1, metavar="N", help="so many processes, with seed + rank")
    add("--rank-fd", type=_count(0), help=argparse.SUPPRESS)
    add("--precondition", action="store_true", help="writes until the device is steady")
    add("--precondition-size-gb", type=_POSITIVE, default=0.0, metavar="GIB", help="at most; 0: twice the tier")
    add(
        "--precondition-keep",
        type=_POSITIVE,
        default=0.0,
        metavar="GIB",
        help="so much of it stays below --cache-dir, and the next run with this takes it instead of writing again",
    )
    add(
        "--dedup-check",
        action="store_true",
        help="does the device save itself work on data that is alike, or can be compressed?",
    )
    add("--precondition-threads", type=_count(0, 256), default=0, metavar="N", help="0: one for each core")
    add(
        "--fio-seconds",
        type=_POSITIVE,
        default=2.0,
        metavar="S",
        help="the same by fio, if it is installed: for so long (--compare: each object once); 0: not",
    )
    add("--copy-probe", action="store_true", help="copies what was delivered once more, out of the time")
    add("--compare", nargs="?", const="all", metavar="LIST", help="paths in turns over the same objects")
    add(
        "--compare-gib",
        type=_number(0.001, 1024),
        default=0.25,
        metavar="GIB",
        help="objects of a pass; each path makes four passes and more at each depth",
    )
    add("--compare-tmpfs", metavar="DIR", help="the same there as well, for the column tmpfs of the reviewer's table")
    add("--compare-threads", default="1,4,20", metavar="LIST")
    add("--upstream", metavar="FILE", help="your checkout's kv-cache.py, run beside with the same flags")
    add("--performance-profile", choices=("latency", "throughput"), help="thresholds of the original; none by default")
    add("--slo-read-p95", type=_POSITIVE, metavar="MS", help="fails when the storage tier's reads take longer")
    add("--slo-write-p95", type=_POSITIVE, metavar="MS")


def _output(group: Any) -> None:
    add = group.add_argument
    add("--output", metavar="JSON", help="the result; its records go beside it as .ops.csv.gz and .requests.csv.gz")
    add("--csv", metavar="FILE", help="adds one line for this run")
    add("--xlsx-output", metavar="FILE", help="as --csv; the name must end in .csv")
    add("--plot", metavar="FILE", help="draws the figures, as .png, .svg or .pdf")
    add("--bundle", metavar="TAR", help="result, records and pictures in one .tar.gz")
    add(
        "--log-level",
        default="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        help="from WARNING on no progress is shown",
    )


def _without_sense(group: Any) -> None:
    group.add_argument("--enable-autoscaling", action="store_true", default=None, help="refused")
    group.add_argument("--autoscaler-mode", choices=("qos", "capacity"), help="refused")
    group.add_argument("--target-saturation", type=_number(0, 1), help="refused")
    group.add_argument("--enable-latency-tracing", action="store_true", default=None, help="refused")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Flags with their defaults filled in. InvalidArgumentError for what cannot be done."""
    made = parser()
    options = made.parse_args(arguments)
    _check_pairs(options, {name for name, value in vars(options).items() if value != made.get_default(name)})
    for name, reason in _REFUSED.items():
        if getattr(options, name) is not None:
            raise InvalidArgumentError(f"--{name.replace('_', '-')}: {reason}")
    if options.trials is None and (options.preset or options.compare is not None):
        options.trials = 3
    if all(getattr(options, name) is None for name in _SIZED):
        options.preset = "quick"
    for name, value in {**_DEFAULTS, **PRESETS.get(options.preset or "", {})}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.decode_only = bool(options.decode_only) and not options.prefill_only
    options.trials = options.trials or 1
    options.seed = 42 if options.seed is None else options.seed
    _check(options)
    return options


def _check_pairs(options: argparse.Namespace, given: set[str]) -> None:
    def flag(name: str) -> str:
        return "--" + name.replace("_", "-")

    for name, other in _ONLY_WITH.items():
        if name in given and other not in given:
            raise InvalidArgumentError(f"{flag(name)} needs {flag(other)}")
    for name, others in _NOT_WITH.items():
        wrong = [flag(other) for other in others if other in given]
        if name in given and wrong:
            raise InvalidArgumentError(f"{flag(name)} goes not with {', '.join(wrong)}, which would do nothing")
    if "arrival_cv" in given and options.arrival != "gamma":
        raise InvalidArgumentError("--arrival-cv needs --arrival gamma")


def _check(options: argparse.Namespace) -> None:
    if options.arrival is None:
        options.arrival = "fixed" if options.request_rate else "users"
    if options.arrival in arrivals.OPEN and not options.request_rate:
        raise InvalidArgumentError(f"--arrival {options.arrival} needs --request-rate")
    if options.request_rate and options.arrival not in arrivals.OPEN:
        raise InvalidArgumentError(f"--request-rate has no effect with --arrival {options.arrival}")
    if options.tensor_parallel > options.num_gpus:
        raise InvalidArgumentError("--tensor-parallel must be at most --num-gpus")
    sources = ("use_burst_trace", "dataset_path", "hash_trace", "replay_trace")
    given = ["--" + name.replace("_", "-") for name in sources if getattr(options, name)]
    if len(given) > 1:
        raise InvalidArgumentError(f"only one of {', '.join(given)} can say what is done")
    for name in ("xlsx_output", "csv"):
        value = getattr(options, name)
        if value and not value.endswith(".csv"):
            raise InvalidArgumentError(f"--{name.replace('_', '-')} must end in .csv, not {value!r}")
