"""Network cards: what is there for RDMA, what is missing, and what registering memory with them costs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from .kernel import ask, killed
from .row import NOTE, OK, Row
from .system import System, whole

_SYSFS, _FILES = "/sys/class/infiniband", "/dev/infiniband"
_WITHOUT = "stores work without; with one, memory can be registered with it (Store.attach_device)"
_INSTALL = "apt-get install libibverbs1 ibverbs-providers (dnf install libibverbs)"
_REINSTALL = "reinstall rdma-core, or take a newer one"
_DRIVERS = "load the card's driver (modprobe mlx5_ib, irdma, ...); rdma link add rxe0 type rxe netdev eth0 makes one"


def cards(system: System) -> list[str]:
    """Those that the kernel has a driver for."""
    try:
        return sorted(os.listdir(system.root + _SYSFS))
    except OSError:
        return []


def library(system: System) -> Iterator[Row]:
    """Whether libibverbs is there, and can reach the kernel. What is missing matters where there is a card."""
    there, answer = cards(system), ask("rdma")
    what, verdict = "RDMA library", NOTE if there else OK
    if "missing" in answer:
        yield Row(what, f"not here ({answer['missing']})", verdict, _WITHOUT, _INSTALL)
    elif "signal" in answer:
        yield Row(what, f"ends its program ({killed(answer)})", NOTE, _WITHOUT, _REINSTALL)
    elif answer["errno"] == errno.ENOSYS:
        yield Row(what, "libibverbs is here, and the kernel has no verbs", verdict, _WITHOUT, "modprobe ib_uverbs")
    elif answer["errno"]:
        change = "look at the kernel's log (dmesg)"
        yield Row(what, f"libibverbs is here, and says: {os.strerror(answer['errno'])}", NOTE, _WITHOUT, change)
    elif unknown := [name for name in there if name not in answer["devices"]]:
        means = f"it has no part that knows {', '.join(unknown)}"
        yield Row(what, f"lists {_names(answer['devices'])}", NOTE, means, "apt-get install ibverbs-providers")
    else:
        yield Row(what, f"lists {_names(answer['devices'])}", OK, _WITHOUT)


def devices(system: System) -> Iterator[Row]:
    there = cards(system)
    change = "" if there else _DRIVERS + "; in a container the host does"
    yield Row("RDMA devices", ", ".join(there) or "none", OK, _WITHOUT, change)
    for name in there:
        yield _permission(system, name)
        yield _link(system, name)


def _permission(system: System, name: str) -> Row:
    what = f"{name}, its file"
    file = f"{_FILES}/{_file(system, name)}"
    means = "a device is opened by this file"
    if not os.path.exists(system.root + file):
        change = "docker run --device=/dev/infiniband; on the host itself: modprobe ib_uverbs"
        return Row(what, f"{file} is not there", NOTE, means, change)
    if not os.access(system.root + file, os.R_OK | os.W_OK):
        change = f"chmod a+rw {file}, which rdma-core's udev rules do; or the group that has it"
        return Row(what, f"{file} may not be opened by this user", NOTE, means, change)
    return Row(what, file, OK, means)


def _file(system: System, name: str) -> str:
    """The kernel numbers files in the order in which cards come, not by their names."""
    folder = "/sys/class/infiniband_verbs"
    try:
        files = sorted(os.listdir(system.root + folder))
    except OSError:
        files = []
    return next((file for file in files if system.text(f"{folder}/{file}/ibdev") == name), "uverbs0")


def _link(system: System, name: str) -> Row:
    """The best of its ports."""
    folder = f"{_SYSFS}/{name}/ports"
    try:
        ports = sorted(os.listdir(system.root + folder), key=lambda port: (len(port), port))
    except OSError:
        ports = []
    states = {port: system.text(f"{folder}/{port}/state") or "not known" for port in ports}
    best = max(ports, key=lambda port: _rank(states[port]), default="")
    state = states.get(best, "no port")
    layer = system.text(f"{folder}/{best}/link_layer") or "link layer not known"
    found = f"port {best or 'none'}, {layer}: {(state.partition(': ')[2] or state).lower()}"
    if _rank(state) == _ACTIVE:
        return Row(f"{name}, its link", found, OK, "it can be attached to a store")
    if layer == "InfiniBand":
        change = "start a subnet manager (opensm)" if _rank(state) > 1 else "look at cable and switch (ibstat)"
    else:
        change = "ip link set INTERFACE up (rdma link says which), or look at the cable"
    return Row(f"{name}, its link", found, NOTE, "no port has a link: it cannot be attached to a store", change)


_ACTIVE = 4


def _rank(state: str) -> int:
    """The number that the kernel puts in front: 1 down, 2 initialising, 3 armed, 4 active."""
    number = whole(state.partition(":")[0])
    return number if number is not None and number <= _ACTIVE else 0


def registering(system: System) -> Iterator[Row]:
    """What is measured on the cards that can be used."""
    for name in cards(system):
        if _rank_of(system, name) != _ACTIVE:
            continue
        answer = ask("registering", name)
        what = f"{name}, registering"
        if "signal" in answer:
            yield Row(what, f"ends its program ({killed(answer)})", NOTE, "it cannot be used", _REINSTALL)
        elif "failed" in answer:
            yield Row(what, answer["failed"], NOTE, "memory cannot be registered with it", "see the rows above")
        else:
            first, *rest = answer["text"].splitlines()
            yield Row(what, first.partition(": ")[2], OK, "; ".join(rest), "Store(register=...)")


def _rank_of(system: System, name: str) -> int:
    folder = f"{_SYSFS}/{name}/ports"
    try:
        ports = os.listdir(system.root + folder)
    except OSError:
        return 0
    return max((_rank(system.text(f"{folder}/{port}/state") or "") for port in ports), default=0)


def _names(names: list[str]) -> str:
    return ", ".join(names) or "no device"


CHECKS = (library, devices, registering)
