"""From flags to what will be done: the schedule, the tiers, and whether there is room."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from dataclasses import dataclass

from ...errors import InvalidArgumentError
from .. import machine
from ..disk.place import Place
from . import config as configuration
from . import environment, fit, folder, models, replays, schedule, workload
from .cache import Cache, Tier
from .config import Config
from .data import Data
from .engine import Rules
from .models import Model
from .paths import known
from .paths.memory import Memory
from .paths.ours import Ours
from .paths.path import Path
from .schedule import Schedule

GIB = 1 << 30
_MOST_WORKERS = 500


@dataclass(frozen=True)
class Plan:
    options: argparse.Namespace
    config: Config
    model: Model
    schedule: Schedule
    directory: str
    place: Place
    rules: Rules
    backend: str
    capacity: int
    """Bytes of the last tier."""
    needs: fit.Needs
    tiers: tuple[tuple[str, int], ...]
    """Name and bytes of those in memory."""

    @property
    def targets(self) -> dict[str, float]:
        """Milliseconds that 95 % of the requests of a class of service may take."""
        return {name: profile.targets[0] for name, profile in self.config.qos_profiles.items()}

    @property
    def data(self) -> Data:
        return Data(self.options.seed)

    def dataset(self) -> str:
        """SHA-256 of what all bytes follow from: the seed, and every key with its length."""
        digest = hashlib.sha256(f"{self.options.seed}/{self.model.bytes_per_token}".encode())
        for key, tokens in sorted(self.schedule.written().items()):
            digest.update(f"{key}:{tokens}\n".encode())
        return digest.hexdigest()


def plan(options: argparse.Namespace) -> Plan:
    config = configuration.load(options.config) if options.config else Config()
    model = _model(options, config)
    directory = folder.directory(options.cache_dir)
    made = _schedule(options, config)
    capacity = int(options.storage_capacity_gb * GIB) or _free(directory, options)
    rules = _rules(options, config, model)
    backend = known.chosen(options.backend)
    tiers = _tiers(options)
    needs = _needs(options, config, made, model, rules, backend, tiers)
    # A comparison takes as many objects as there is room for; who has started a rank has asked for all of them.
    if options.compare is None and options.rank_fd is None:
        each = f" of each of {options.ranks} ranks" if options.ranks > 1 else ""
        fit.check(
            needs, capacity=capacity // options.ranks, memory=machine.available_memory() // options.ranks,
            scale=options.scale,
            what=(f"{len(made.before)} objects beforehand" if made.before else "this workload") + each,
        )  # fmt: skip
    place = environment.place_of(directory)
    return Plan(options, config, model, made, directory, place, rules, backend, capacity, needs, tiers)


def _free(directory: str, options: argparse.Namespace) -> int:
    """What may be filled, less what preconditioning will leave there."""
    fill = 0 if os.path.lexists(folder.preconditioned(directory)) else int(options.precondition_keep * GIB)
    free: int = int(shutil.disk_usage(directory).free * 0.95) - fill
    if free <= 0:
        raise InvalidArgumentError(f"--precondition-keep {options.precondition_keep:g}: there is no room for it")
    return free


def _model(options: argparse.Namespace, config: Config) -> Model:
    model = models.custom(options.model_shape) if options.model_shape else config.model_configs[options.model]
    return model.share(options.tensor_parallel)


def wanted(options: argparse.Namespace, config: Config) -> workload.Wanted:
    return workload.Wanted(
        users=options.num_users,
        duration=options.warmup + options.duration,
        seed=options.seed,
        config=config,
        scale=options.scale,
        multi_turn=not options.disable_multi_turn,
        prefixes=not options.disable_prefix_caching,
        rag_documents=options.rag_num_docs if options.enable_rag else 0,
        mode="decode" if options.decode_only else "prefill" if options.prefill_only else "both",
        arrival=options.arrival,
        rate=options.request_rate,
        cv=options.arrival_cv,
        max_requests=options.max_requests,
        decode_reads=options.decode_reads,
        block_tokens=options.blocks,
    )


def _schedule(options: argparse.Namespace, config: Config) -> Schedule:
    if options.replay_trace:
        return schedule.load(options.replay_trace)
    asked = wanted(options, config)
    cycles, speedup = options.replay_cycles, options.trace_speedup
    if options.use_burst_trace:
        return replays.burst(asked, options.burst_trace_path, speedup, cycles)
    if options.hash_trace:
        return replays.hashed(asked, options.hash_trace, speedup, cycles)
    if options.dataset_path:
        return replays.sharegpt(asked, options.dataset_path, options.max_conversations, cycles)
    return workload.synthetic(asked)


def _rules(options: argparse.Namespace, config: Config, model: Model) -> Rules:
    return Rules(
        workers=options.workers or min(options.num_users, _MOST_WORKERS),
        duration=options.duration,
        warmup=options.warmup,
        closed=options.arrival == "closed",
        per_token=getattr(config.generation_timing, options.generation_mode),
        max_writers=options.max_concurrent_allocs,
        bytes_per_token=model.bytes_per_token,
        probe=options.copy_probe,
    )


def _tiers(options: argparse.Namespace) -> tuple[tuple[str, int], ...]:
    gpu = int(options.gpu_mem_gb * options.num_gpus * options.scale * GIB)
    cpu = int(options.cpu_mem_gb * options.scale * GIB)
    return tuple((name, size) for name, size in (("gpu", gpu), ("cpu", cpu)) if size)


def _needs(
    options: argparse.Namespace, config: Config, made: Schedule, model: Model, rules: Rules, backend: str,
    tiers: tuple[tuple[str, int], ...],
) -> fit.Needs:  # fmt: skip
    each = model.bytes_per_token
    objects = sum(made.written().values()) * each
    largest = made.largest() * each
    writers = min(options.max_concurrent_allocs or rules.workers, rules.workers)
    if options.decode_only and not options.enable_rag and options.disable_prefix_caching:
        writers = min(4, rules.workers)
    before = sum(op.tokens for op in made.before) * each
    copies = 2 if backend == "legacy2" else 1
    return fit.Needs(
        before=max(0, before - int(config.eviction.target_usage_ratio * sum(size for _, size in tiers))),
        objects=objects,
        largest=largest,
        tiers=min(sum(size for _, size in tiers), objects),
        lanes=largest * (rules.workers * copies + writers),
        store=store_memory(largest, max(writers, min(4, rules.workers))) if backend == Ours.name else 0,
    )


def cache(plan: Plan, path: Path) -> Cache:
    """Fresh and empty."""
    rules = plan.config.eviction
    tiers = [
        Tier(name, Memory(name), size, int(size * rules.target_usage_ratio), int(size * rules.max_object_ratio))
        for name, size in plan.tiers
    ]
    tiers.append(Tier("storage", path, plan.capacity, plan.capacity, plan.capacity))
    return Cache(tiers)


def storage(plan: Plan, where: str) -> Path:
    os.makedirs(where, exist_ok=True)
    return known.opened(
        plan.backend, where, plan.model, memory=plan.needs.store, capacity=plan.capacity,
        verify=plan.options.store_verify,
    )  # fmt: skip


def store_memory(largest: int, writers: int) -> int:
    """Of a store whose objects all lie on disk: what so many writers need at a time, with some room between. More
    would be a tier in memory that nobody has asked for.
    """
    return largest * writers * 3 // 2
