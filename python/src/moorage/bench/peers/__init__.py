"""`moorage bench --peers`: the same work by what else keeps tensors, each in its best form, in turns in one run.

Every peer has a process of its own, so that one that dies takes nothing else along; they all work on the same bytes,
one at a time. A peer that is not installed, does not start or dies is named with the reason.

A module here describes one peer: what it needs, where its bytes lie, and the statements that are timed. None of them
imports its package before it is asked to start.
"""

from __future__ import annotations

from importlib import import_module

from .peer import Peer

# In the order of the tables. The first two are what the others are compared with.
MODULES = tuple(
    f"{__name__}.{name}"
    for name in (
        "floor", "ours", "plain_dict", "safetensors", "shared_memory", "lmdb", "torch_load", "tensordict", "arrow",
        "redis", "mooncake",
    )
)  # fmt: skip


def peer(module: str) -> Peer:
    """The peer that this module describes, not started."""
    made: Peer = import_module(module).PEER()
    return made
