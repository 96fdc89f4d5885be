"""--precondition, and what of it can be kept: a device that was written to until it was steady stays so for a while."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any, Callable

from ...errors import InvalidArgumentError
from ..disk.place import System
from . import steady
from .folder import folder, preconditioned
from .paths import known
from .planning import GIB, Plan, store_memory

_STATE = "state.json"
_FORMAT = "moorage kv-bench preconditioned 1"
_BOOT = "/proc/sys/kernel/random/boot_id"

Note = Callable[[str], None]


def prepared(plan: Plan, note: Note) -> dict[str, Any] | None:
    """Before the first trial. For the result: what was done now, or when it was done and what was written since."""
    options = plan.options
    if not options.precondition:
        return None
    keep = int(options.precondition_keep * GIB)
    if not keep:
        with folder(plan.directory) as where:
            return {**_write(plan, where, plan.capacity, note), "kept": False}
    there = preconditioned(plan.directory)
    again = None
    if os.path.lexists(there):
        state = _state(there)
        again = _unfit(plan, there, state, keep)
        if again is None:
            return {**_reused(plan, state), "kept": True}
        note(f"{there} is made again: {again}")
        shutil.rmtree(there)
    return {**_made(plan, there, keep, note), "kept": True, "made_again": again}


def _write(plan: Plan, where: str, capacity: int, note: Note) -> dict[str, Any]:
    largest = steady.tokens(plan.options) * plan.model.bytes_per_token
    memory = store_memory(largest, steady.threads(plan.options))
    path = known.opened(plan.backend, where, plan.model, memory=memory, capacity=capacity, verify=False)
    try:
        return steady.precondition(plan, path, capacity, note).facts()
    finally:
        path.close()


def _made(plan: Plan, there: str, keep: int, note: Note) -> dict[str, Any]:
    """Under another name until all of it is there: what was interrupted is not taken for it."""
    with folder(plan.directory) as where:
        fill = os.path.join(where, "fill")
        os.mkdir(fill)
        found = {**_write(plan, os.path.join(fill, "objects"), keep, note), "at": time.time()}
        state = {
            "format": _FORMAT, **found, "gib_kept": keep / GIB, "device": plan.place.title, "parts": plan.place.parts,
            "file_system": plan.place.filesystem, "files": _files(fill), **_counted(plan),
        }  # fmt: skip
        with open(os.path.join(fill, _STATE), "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fill, there)
    return {**found, "gib_kept": keep / GIB}


def _files(where: str) -> dict[str, int]:
    """Their sizes, by their names below the folder."""
    found = {}
    for base, _, names in os.walk(where):
        for name in names:
            path = os.path.join(base, name)
            found[os.path.relpath(path, where)] = os.lstat(path).st_size
    return found


def _counted(plan: Plan) -> dict[str, Any]:
    """The device's own count of what was written, which begins again with the machine."""
    now = System().counters(plan.place.device) if plan.place.device else None
    return {"boot": _boot(), "device_written": now.written if now is not None else None}


def _boot() -> str:
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _state(there: str) -> dict[str, Any]:
    """InvalidArgumentError for a folder that is not ours: nobody else's is removed."""
    try:
        with open(os.path.join(there, _STATE), encoding="utf-8") as file:
            state: dict[str, Any] = json.load(file)
        if state["format"] == _FORMAT:
            return state
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InvalidArgumentError(
        f"--precondition-keep: {there} was not made by this version of the benchmark; remove it, or choose another "
        "--cache-dir"
    )


def _unfit(plan: Plan, there: str, state: dict[str, Any], keep: int) -> str | None:
    """Why it cannot be taken for what was asked."""
    if (state["device"], state["file_system"]) != (plan.place.title, plan.place.filesystem):
        return f"it was made on {state['device']}, {state['file_system']}"
    if int(state["gib_kept"] * GIB) != keep:
        return f"it has {state['gib_kept']:g} GiB"
    if not state["steady"] and state["gib"] * GIB < steady.volume(plan.options, keep):
        return "it was not steady when it was made, and less was written than may be now"
    now = _files(there)
    now.pop(_STATE, None)
    if now != state["files"]:
        return "its files are not those that were made"
    return None


def _reused(plan: Plan, state: dict[str, Any]) -> dict[str, Any]:
    now = _counted(plan)
    known_since = state["boot"] and state["boot"] == now["boot"] and state["device_written"] is not None
    return {
        **{name: state[name] for name in ("gib_per_s", "gib", "steady", "at", "gib_kept")},
        "reused": True, "age_s": time.time() - state["at"],
        "written_since_bytes": now["device_written"] - state["device_written"] if known_since else None,
    }  # fmt: skip
