"""Moorage: a zero-copy tensor store for PyTorch and numpy jobs.

    import moorage, torch

    store = moorage.Store("1GiB")
    store.put_tensor("weights", torch.randn(1024, 1024))
    w = store.get_tensor("weights")      # no copy; owns its bytes; writable without touching the store

`Store` is where to begin. What its getters return owns its bytes: they stay until the last tensor, array or slice
made from them is gone, whatever happens to the key or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .buffer import Buffer
from .errors import (
    AlreadyAdoptedError,
    BadHandleError,
    BusyError,
    CancelledError,
    CapacityError,
    ClosedError,
    ExistsError,
    ForkedError,
    FormatError,
    HugePagesError,
    InternalError,
    InvalidArgumentError,
    IOFailedError,
    MoorageError,
    NoDeviceError,
    NoMemoryError,
    NotFoundError,
    ReadOnlyError,
    SystemFailureError,
    TooSmallError,
    UnsupportedError,
    WaitTimeoutError,
)
from .store import IfExists, Mode, Store

if TYPE_CHECKING:
    from .devices import Device, Network, network
    from .job import Job, Timing
    from .job_queue import Completion, JobQueue
    from .records import Borrow, Description, DeviceStats, DiskStats, SnapshotInfo, Stats
    from .registration import Registration
    from .snapshot import Snapshot
    from .timings import Timings

__all__ = [
    "AlreadyAdoptedError",
    "BadHandleError",
    "Borrow",
    "Buffer",
    "BusyError",
    "CancelledError",
    "CapacityError",
    "ClosedError",
    "Completion",
    "Description",
    "Device",
    "DeviceStats",
    "DiskStats",
    "ExistsError",
    "ForkedError",
    "FormatError",
    "HugePagesError",
    "IOFailedError",
    "IfExists",
    "InternalError",
    "InvalidArgumentError",
    "Job",
    "JobQueue",
    "Mode",
    "MoorageError",
    "Network",
    "NoDeviceError",
    "NoMemoryError",
    "NotFoundError",
    "ReadOnlyError",
    "Registration",
    "Snapshot",
    "SnapshotInfo",
    "Stats",
    "Store",
    "SystemFailureError",
    "Timing",
    "Timings",
    "TooSmallError",
    "UnsupportedError",
    "WaitTimeoutError",
    "__version__",
    "network",
]


def __getattr__(name: str) -> Any:
    if name == "Snapshot":
        from .snapshot import Snapshot

        return Snapshot
    if name == "Registration":
        from .registration import Registration

        return Registration
    if name == "Timings":
        from .timings import Timings

        return Timings
    if name in ("Job", "Timing"):
        from . import job

        return getattr(job, name)
    if name in ("Completion", "JobQueue"):
        from . import job_queue

        return getattr(job_queue, name)
    if name in ("Device", "Network", "network"):
        from . import devices

        return getattr(devices, name)
    # Importing dataclasses would be half of our import.
    if name in ("Borrow", "Description", "DeviceStats", "DiskStats", "SnapshotInfo", "Stats"):
        from . import records

        return getattr(records, name)
    if name == "__version__":
        from ._lib import load

        return load().version
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
