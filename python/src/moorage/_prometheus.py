"""Counters of stores in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import Stats

_GAUGE, _COUNTER = "gauge", "counter"

# Field of Stats -> name, type, help. A test compares it with the numbers in Stats.
METRICS: dict[str, tuple[str, str, str]] = {
    "capacity": ("capacity_bytes", _GAUGE, "Address space for objects."),
    "used": ("used_bytes", _GAUGE, "Extents that are not free, rounding included."),
    "free_warm": ("free_warm_bytes", _GAUGE, "Free memory that was touched before."),
    "free_cold": ("free_cold_bytes", _GAUGE, "Free memory that still costs a page fault."),
    "largest_free": ("largest_free_bytes", _GAUGE, "Longest free piece: the largest object that fits."),
    "resident": ("resident_bytes", _GAUGE, "Memory behind the store, each page once."),
    "metadata": ("metadata_bytes", _GAUGE, "Index, records and pin cells."),
    "objects": ("objects", _GAUGE, "Objects with a name."),
    "pinned_objects": ("pinned_objects", _GAUGE, "Objects protected against eviction."),
    "pinned_bytes": ("pinned_bytes", _GAUGE, "Bytes of objects protected against eviction."),
    "borrowed_objects": ("borrowed_objects", _GAUGE, "Objects with at least one view, and reservations."),
    "borrowed_bytes": ("borrowed_bytes", _GAUGE, "Bytes of viewed objects and reservations."),
    "held_bytes": ("held_bytes", _GAUGE, "Bytes kept for forked children only."),
    "children": ("children", _GAUGE, "Forked children that live."),
    "children_unfollowed": ("children_unfollowed_total", _COUNTER, "Forked children whose end cannot be learnt."),
    "windows": ("windows", _GAUGE, "Copy-on-write windows mapped now."),
    "puts": ("puts_total", _COUNTER, "Objects stored."),
    "gets": ("gets_total", _COUNTER, "Look-ups that found their object."),
    "misses": ("misses_total", _COUNTER, "Look-ups that found nothing."),
    "removes": ("removes_total", _COUNTER, "Names removed."),
    "evictions": ("evictions_total", _COUNTER, "Objects evicted."),
    "adoptions": ("adoptions_total", _COUNTER, "Objects stored without a copy."),
    "adopt_copies": ("adopt_copies_total", _COUNTER, "Adoptions that had to copy."),
    "bytes_copied_in": ("copied_in_bytes_total", _COUNTER, "Bytes copied into the store."),
    "bytes_copied_out": ("copied_out_bytes_total", _COUNTER, "Bytes copied out of the store."),
    "window_copies": ("window_copies_total", _COUNTER, "Copies made where a copy-on-write window was asked for."),
    "protected_extents": ("protected_extents", _GAUGE, "Adopted extents whose pages are read-only for their producer."),
    "last_seq": ("commits_total", _COUNTER, "Sequence number of the last commit."),
    "registrations": ("registrations", _GAUGE, "Ranges of the caller that are registered."),
    "registered_bytes": ("registered_bytes", _GAUGE, "Bytes in registered ranges of the caller."),
    "locked_bytes": ("locked_bytes", _GAUGE, "Bytes in registered ranges whose pages are locked in memory."),
    "devices": ("devices", _GAUGE, "Network devices that memory can be registered with."),
    "slab_bytes": ("slab_bytes", _GAUGE, "Memory of the store that is registered with a device."),
    "device_registrations": ("device_registrations_total", _COUNTER, "Registrations of memory with a device."),
    "register_ns": ("register_nanoseconds_total", _COUNTER, "Nanoseconds spent in registering and deregistering."),
    "hugepages": ("hugepages", _GAUGE, "1 when the store lies in huge pages that were set aside."),
}

# Field of DeviceStats likewise; each line has the label `device`.
DEVICE_METRICS: dict[str, tuple[str, str, str]] = {
    "regions": ("device_regions", _GAUGE, "Slabs and ranges that are registered with the device."),
    "nbytes": ("device_registered_bytes", _GAUGE, "Bytes that are registered with the device."),
    "registrations": ("device_own_registrations_total", _COUNTER, "Registrations with the device."),
    "register_ns": ("device_register_nanoseconds_total", _COUNTER, "Nanoseconds spent in registering with the device."),
}


def prometheus(stats: Mapping[str, Stats]) -> str:
    """The counters of several stores, by name: each comes as the label `store`. An empty name makes no label.

    A metric stands in one place with its lines for all stores, as the format wants it; the texts of several
    `Stats.prometheus()` one behind the other would not be valid.
    """
    return "".join(line + "\n" for line in _lines(stats))


def _lines(stats: Mapping[str, Stats]) -> Iterator[str]:
    for field, (name, kind, text) in METRICS.items():
        yield f"# HELP moorage_{name} {text}"
        yield f"# TYPE moorage_{name} {kind}"
        for store, values in stats.items():
            yield f"moorage_{name}{_labels(store=store)} {int(getattr(values, field))}"
    if not any(values.attached for values in stats.values()):
        return
    for field, (name, kind, text) in DEVICE_METRICS.items():
        yield f"# HELP moorage_{name} {text}"
        yield f"# TYPE moorage_{name} {kind}"
        for store, values in stats.items():
            for device in values.attached:
                yield f"moorage_{name}{_labels(store=store, device=device.name)} {getattr(device, field)}"


def _labels(**labels: str) -> str:
    """Those that are not empty."""
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items() if value)
    return f"{{{shown}}}" if shown else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
