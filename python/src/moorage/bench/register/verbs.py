"""Registering with a network card: what libibverbs and the card's driver make of ibv_reg_mr and ibv_dereg_mr."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p
from types import TracebackType
from typing import Any

from .pinning import NoPinning

_LIBRARY = "libibverbs.so.1"
_ACCESS = 1 | 4  # the card may write, peers may read: what a store asks for
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ibv_get_device_list": (POINTER(c_void_p), [POINTER(c_int)]),
    "ibv_free_device_list": (None, [POINTER(c_void_p)]),
    "ibv_get_device_name": (c_char_p, [c_void_p]),
    "ibv_open_device": (c_void_p, [c_void_p]),
    "ibv_close_device": (c_int, [c_void_p]),
    "ibv_alloc_pd": (c_void_p, [c_void_p]),
    "ibv_dealloc_pd": (c_int, [c_void_p]),
    "ibv_reg_mr": (c_void_p, [c_void_p, c_void_p, c_size_t, c_int]),
    "ibv_dereg_mr": (c_int, [c_void_p]),
    "ibv_wc_status_str": (c_void_p, [c_int]),
}


def _load() -> Any:
    try:
        library = ctypes.CDLL(os.environ.get("MOORAGE_LIBIBVERBS") or _LIBRARY, use_errno=True)
    except OSError as error:
        raise NoPinning(
            f"{_LIBRARY} cannot be loaded ({error}); install rdma-core (Debian, Ubuntu: apt-get install libibverbs1 "
            "ibverbs-providers)"
        ) from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise NoPinning(f"{_LIBRARY} has no {name}: it is not rdma-core's")
        function.restype, function.argtypes = result, arguments
    return library


class Device:
    """A card, opened, with a protection domain. Any thread may register with it."""

    longest = 1 << 40  # what a card cannot, it refuses

    def __init__(self, name: str) -> None:
        self.name = name
        self.how = f"ibv_reg_mr on {name}"
        self._verbs = _load()
        self._context = self._pd = None
        try:
            self._context = self._open(name)
            self._pd = self._verbs.ibv_alloc_pd(self._context)
            if not self._pd:
                raise NoPinning(f"{name}: ibv_alloc_pd: {_reason(0)}")
        except BaseException:
            self.close()
            raise

    def _open(self, name: str) -> Any:
        count = c_int()
        ctypes.set_errno(0)
        found = self._verbs.ibv_get_device_list(ctypes.byref(count))
        if not found:
            number = ctypes.get_errno()
            remedy = ": the kernel has no verbs (modprobe ib_uverbs)" if number == errno.ENOSYS else ""
            raise NoPinning(f"no device can be listed: {os.strerror(number)}{remedy}")
        try:
            names = [(self._verbs.ibv_get_device_name(found[i]) or b"").decode() for i in range(count.value)]
            if name not in names:
                raise NoPinning(
                    f"there is no such device; there {'are' if len(names) > 1 else 'is'} {', '.join(names) or 'none'} "
                    "(a driver such as mlx5_ib or rdma_rxe makes them)"
                )
            ctypes.set_errno(0)
            context = self._verbs.ibv_open_device(found[names.index(name)])
            if not context:
                raise NoPinning(
                    f"{name} cannot be opened: {os.strerror(ctypes.get_errno())} (its file in /dev/infiniband must be "
                    "there, and this user be let in; in a container: --device=/dev/infiniband)"
                )
            return context
        finally:
            self._verbs.ibv_free_device_list(found)

    def is_software(self) -> bool:
        """Whether there is no card behind it (rdma_rxe, siw)."""
        folder = f"/sys/class/infiniband/{self.name}"
        return "/virtual/" in os.path.realpath(folder) or os.path.exists(f"{folder}/parent")

    def table(self) -> Regions:
        return Regions(self)

    def nothing(self) -> None:
        self._verbs.ibv_wc_status_str(0)

    def register(self, address: int, size: int) -> int:
        region: int | None = self._verbs.ibv_reg_mr(self._pd, address, size, _ACCESS)
        if not region:
            raise NoPinning(f"{self.name}: ibv_reg_mr of {size} bytes: {_reason(size)}")
        return region

    def deregister(self, region: int) -> None:
        number = self._verbs.ibv_dereg_mr(region)
        if number:
            raise NoPinning(f"{self.name}: ibv_dereg_mr: {os.strerror(number)}")

    def close(self) -> None:
        """Idempotent. Its tables must be closed before."""
        pd, self._pd = self._pd, None
        context, self._context = self._context, None
        if pd:
            self._verbs.ibv_dealloc_pd(pd)
        if context:
            self._verbs.ibv_close_device(context)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reason(size: int) -> str:
    """What a refusal means; called right behind it."""
    number = ctypes.get_errno()
    text = os.strerror(number)
    if number != errno.ENOMEM:
        return text
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft} bytes"
    return f"{text} (RLIMIT_MEMLOCK, ulimit -l, is {limit}, and every registration counts)"


class Regions:
    """Ranges that are registered with a card, by place."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.regions: dict[int, int] = {}

    def change(self, slot: int, address: int, size: int) -> Registering:
        return Registering(self, slot, address, size)

    def emptying(self, slot: int) -> Deregistering:
        return Deregistering(self, slot)

    def close(self) -> None:
        while self.regions:
            self.device.deregister(self.regions.popitem()[1])

    def __enter__(self) -> Regions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Registering:
    def __init__(self, table: Regions, slot: int, address: int, size: int) -> None:
        self._regions, self._slot, self._register = table.regions, slot, table.device.register
        self.address, self.size = address, size

    def __call__(self) -> None:
        self._regions[self._slot] = self._register(self.address, self.size)


class Deregistering:
    address = size = 0

    def __init__(self, table: Regions, slot: int) -> None:
        self._regions, self._slot, self._deregister = table.regions, slot, table.device.deregister

    def __call__(self) -> None:
        region = self._regions.pop(self._slot, None)
        if region is not None:
            self._deregister(region)
