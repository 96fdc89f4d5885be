"""Network devices (RDMA): which there are, and why not. Attach one with `Store.attach_device`."""

from __future__ import annotations

import ctypes
import time
from ctypes import byref, sizeof
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from . import _abi, _parse
from .errors import NoDeviceError, error_for
from .records import DeviceStats

if TYPE_CHECKING:
    from ._lib import Library

__all__ = ["Device", "Network", "explain", "network"]

Link = Literal["unknown", "infiniband", "ethernet"]
Missing = Literal["nothing", "platform", "library", "kernel", "device", "permission", "active_port"]

_EXPLANATION = 4096  # bytes
_PIECE = 0.05  # seconds between two looks at signals
_LINKS: dict[int, Link] = {0: "unknown", 1: "infiniband", 2: "ethernet"}
_MISSING: dict[int, Missing] = {
    0: "nothing", 1: "platform", 2: "library", 3: "kernel", 4: "device", 5: "permission", 6: "active_port"
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A network device of this machine, from `network`."""

    name: str
    active: bool
    """It has a port with a link, and can be attached to a store."""
    port: int
    """The port that is used, or would be: the first with a link, else the first; 0 when it is not known."""
    link: Link
    """What that port speaks."""
    numa_node: int
    """-1 when it is not known."""
    refusal: str
    """Why it could not be opened; empty when it could."""


@dataclass(frozen=True)
class Network:
    """What there is for RDMA on this machine, from `network`."""

    devices: tuple[Device, ...]
    missing: Missing
    """The first thing that is; "nothing" when some device can be used."""
    text: str
    """The same in words, with what changes it; empty when nothing is missing."""


def network() -> Network:
    """Looks for network devices, through libibverbs, which is loaded now at the latest. Where there are none nothing is
    wrong: stores work without.

        >>> import moorage
        >>> for device in moorage.network().devices:
        ...     print(device.name, device.link, "can be used" if device.active else device.refusal or "has no link")

    MOORAGE_LIBIBVERBS in the environment names another library than the one that the dynamic loader finds.

    Raises SystemFailureError when devices cannot be listed, ForkedError in a forked child.
    """
    from . import _lib

    library = _lib.load()
    size = 16
    while True:
        room = (_abi.Device * size)()
        found = _abi.DeviceList(struct_size=sizeof(_abi.DeviceList))
        _check(library, library.c.moor_list_devices(room, size, byref(found)))
        if found.count <= size:
            break
        size = found.count + 16
    return Network(tuple(_device(one) for one in room[: found.count]), _MISSING[found.missing], _text(found.text))


def explain(name: str | None = None, register: str = "auto") -> str:
    """What registering memory with a device costs beside copying it, measured in a few milliseconds the first time, and
    what `Store(register=...)` makes of it: lines of text. None is the first device that has a link.

    Raises NoDeviceError when there is no such device or it cannot be used, NoMemoryError when RLIMIT_MEMLOCK is too
    low.
    """
    from . import _lib

    library = _lib.load()
    text = ctypes.create_string_buffer(_EXPLANATION)
    number = _parse.choice(register, "register", _abi.REGISTERING)
    raw = None if name is None else _name(name)
    _check(library, library.c.moor_explain_device(raw, number, text, len(text)))
    return _text(text.value)


def _device(one: _abi.Device) -> Device:
    return Device(
        _text(one.name), bool(one.active), one.port, _LINKS[one.link], one.numa_node, refusal=_text(one.refusal)
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _check(library: Library, status: int) -> None:
    if status:
        raise error_for(status, library.last_error())


def _name(name: object) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    return name.encode("utf-8", "replace").replace(b"\0", b"?")


def attach(library: Library, store: int, name: str | None) -> str:
    """See `Store.attach_device`."""
    attached = ctypes.create_string_buffer(_abi.DEVICE_NAME)
    _check(library, library.c.moor_attach_device(store, None if name is None else _name(name), attached))
    return _text(attached.value)


def detach(library: Library, store: int, name: str, timeout: float | None) -> None:
    """See `Store.detach_device`."""
    raw, end = _name(name), time.monotonic() + _parse.seconds(timeout, "timeout")
    while True:
        # In pieces: Python hears signals only in between.
        left = min(max(end - time.monotonic(), 0), _PIECE)
        status = library.c.moor_detach_device(store, raw, int(left * 1e9))
        if status != _abi.TIMEOUT or time.monotonic() >= end:
            break
    if status == _abi.NOT_FOUND:
        raise NoDeviceError(f"name: {library.last_error()}")
    _check(library, status)


def attached(library: Library, store: int) -> tuple[DeviceStats, ...]:
    """What the devices of a store have registered."""
    size, count = 8, ctypes.c_uint64()
    while True:
        room = (_abi.DeviceStats * size)()
        _check(library, library.c.moor_list_attached(store, room, size, byref(count)))
        if count.value <= size:
            break
        size = count.value + 8
    return tuple(
        DeviceStats(_text(one.name), one.regions, one.bytes, one.registrations, one.register_ns)
        for one in room[: count.value]
    )
