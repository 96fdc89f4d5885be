"""What a store says about itself and its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._prometheus import prometheus

__all__ = ["Borrow", "Description", "DeviceStats", "DiskStats", "SnapshotInfo", "Stats", "prometheus"]


@dataclass(frozen=True)
class Description:
    """What is known of one object, from `Store.describe`."""

    key: str
    nbytes: int
    """Bytes of the object."""
    extent: int
    """Bytes of the store's memory that it occupies, rounding included."""
    dtype: str | None
    """Name of the element type as torch and numpy have it; None for plain bytes."""
    shape: tuple[int, ...]
    """Shape of the tensor; `(nbytes,)` for plain bytes."""
    seq: int
    """Sequence number of the commit that stored it: store-wide, rising."""
    views: int
    """Views held at that moment."""
    pinned: bool
    adopted: bool
    """Stored without a copy, by `adopt`."""
    meta: bytes
    """The user metadata that was stored with it."""
    on_disk: bool = False
    """Only the disk has it; a get brings it into memory."""


@dataclass(frozen=True)
class Borrow:
    """An object that is viewed, from `Store.borrows`."""

    key: str
    """Its name, or the one it had."""
    views: int
    nbytes: int
    seq: int
    unnamed: bool
    """Removed or replaced meanwhile: it lives only because it is viewed."""
    reserved: bool
    """Made by `empty`, and not adopted yet."""
    child: bool
    """Kept for a forked child."""
    traces: tuple[str, ...] = ()
    """In debug mode: for each view that Python code took, the stack at that moment, as in a traceback."""


@dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot holds, from `Snapshot.info`."""

    objects: int
    nbytes: int
    """Bytes of all of them."""
    forked: bool
    """This process is a forked child of the one that took it. The rest counts what all snapshots did in this child;
    in the process that took them see `Store.stats`."""
    child_windows: int
    """Copy-on-write windows mapped now."""
    child_window_copies: int
    """Windows that had to be copies: the descriptor was closed, or mappings ran out."""
    child_bytes_copied: int


@dataclass(frozen=True)
class DeviceStats:
    """What a network device has registered of a store's, from `Store.stats`."""

    name: str
    regions: int
    """Registered now: slabs of the store, and ranges of the caller's."""
    nbytes: int
    """Bytes in them."""
    registrations: int
    """How often memory was registered."""
    register_ns: int
    """Nanoseconds spent in that, and in deregistering."""


@dataclass(frozen=True)
class Stats:
    """Counters and gauges of a store, from `Store.stats`. Sizes in bytes, counts since the store was opened."""

    capacity: int
    used: int
    """Extents that are not free, rounding included."""
    free_warm: int
    """Free memory that was touched before."""
    free_cold: int
    """Free memory that still costs a page fault."""
    largest_free: int
    resident: int
    """Memory behind the store. (The process's RSS counts a page once per mapping, so up to twice.)"""
    metadata: int
    """Index, records and pin cells."""
    objects: int
    pinned_objects: int
    pinned_bytes: int
    borrowed_objects: int
    """Objects with at least one view, and reservations."""
    borrowed_bytes: int
    held_bytes: int
    """Kept for forked children only."""
    children: int
    """Forked children that live."""
    children_unfollowed: int
    """Children whose end cannot be learnt: what was viewed when they started is kept."""
    windows: int
    """Copy-on-write windows mapped now."""
    puts: int
    gets: int
    misses: int
    removes: int
    evictions: int
    adoptions: int
    """Stored without a copy."""
    adopt_copies: int
    """`adopt` that had to copy."""
    bytes_copied_in: int
    bytes_copied_out: int
    """By get, get_into, export_safetensors, mode "copy", and copies made in place of windows."""
    window_copies: int
    """Mode "cow" that had to copy although the object has 64 KiB or more."""
    protected_extents: int
    last_seq: int
    registrations: int
    """Ranges of the caller's that are registered now, see `Store.register`."""
    registered_bytes: int
    """Bytes in them."""
    locked_bytes: int
    """Bytes of those with `lock=True`."""
    devices: int
    """Network devices that memory can be registered with."""
    slab_bytes: int
    """The store's own memory that is registered with a device."""
    device_registrations: int
    """How often memory was registered with a device."""
    register_ns: int
    """Nanoseconds spent in registering, deregistering and locking."""
    attached: tuple[DeviceStats, ...]
    """What each of the store's devices has registered."""
    register: Literal["auto", "never", "always", "require"]
    """`Store(register=)`."""
    hugepages: bool
    """Whether the store lies in huge pages that the administrator has set aside."""

    def prometheus(self, store: str = "") -> str:
        """The same in the text format of Prometheus (0.0.4), for an HTTP answer of type `text/plain; version=0.0.4`.

            print(store.stats().prometheus("weights"))

        store      a name for the store, which becomes the label `store` of every line; none without

        Sizes are in bytes; counters end in `_total`. For several stores in one answer see `moorage.records.prometheus`.
        """
        return prometheus({store: self})


@dataclass(frozen=True)
class DiskStats:
    """Counters and gauges of a store's disk, from `Store.disk_stats`. Sizes in bytes, counts since it was opened."""

    memory_backed: bool
    """The directory lies in memory (tmpfs ...): nothing of what is measured there is storage."""
    capacity: int
    used: int
    """Blocks of objects, rounding included."""
    objects: int
    resident_objects: int
    """Of them, those that memory has as well."""
    recovered_objects: int
    """Found again when the store was opened."""
    lost_objects: int
    """Entries that were found damaged then, and left out."""
    reads: int
    bytes_read: int
    shared_reads: int
    """Gets that waited for a read of another."""
    writes: int
    bytes_written: int
    promotions: int
    """Objects that were read and stayed in memory."""
    demotions: int
    """Objects that were written because memory was needed."""
    evictions: int
    """Objects that were dropped because the disk was full."""
    damaged: int
    """Reads whose checksum was wrong."""
    bytes_bounced: int
    """Copied by the CPU between a bounce slot and where they belong."""
    by_uring_fixed: int
    """Operations by the way they took: io_uring with registered memory,"""
    by_uring: int
    """io_uring with memory that is not registered,"""
    by_direct: int
    """pread and pwrite with O_DIRECT,"""
    by_buffered: int
    """through the page cache."""
    fallbacks: int
    """How often a slower way had to be taken."""
