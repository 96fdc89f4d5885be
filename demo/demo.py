"""A real model through a Moorage store: every tensor handed out without a copy, and checked bit by bit.

    python demo.py FOLDER

FOLDER holds an installed package that carries a .safetensors file (``build.sh demo`` makes one). The package is never
imported; its metadata says where the weights come from and under which licence.
"""

from __future__ import annotations

import email
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

import moorage

HAS_TORCH = importlib.util.find_spec("torch") is not None

#: How often each way of getting is timed.
ROUNDS = 7


def main(folder: Path) -> None:
    file = next(iter(sorted(folder.rglob("*.safetensors"))), None)
    if file is None:
        sys.exit(f"there is no .safetensors file below {folder}")
    describe_source(folder, file)
    with moorage.Store(2 * file.stat().st_size) as store:
        keys = load(store, file)
        copied_by_views = check_arrays(store, file, keys)
        if HAS_TORCH:
            copied_by_views += check_tensors(store, file, keys)
        else:
            print("torch    is not installed here: get_tensor is left out")
        show_places(store, keys)
        show_times(store, file, keys)
        show_copies(store, copied_by_views)


def describe_source(folder: Path, file: Path) -> None:
    metadata = email.message_from_string(next(folder.glob("*.dist-info/METADATA")).read_text())
    print(f"Model    {metadata['Name']} {metadata['Version']}: {metadata['Summary']}")
    licence = metadata["License-Expression"] or metadata["License"] or "not stated"
    print(f"Licence  of the package: {licence}{licence_of_model(file.parent / 'README.md')}")
    print(f"File     {file.name}, {file.stat().st_size / 1e6:.1f} MB\n")


def licence_of_model(card: Path) -> str:
    """The licence that the model card beside the weights names."""
    if not card.is_file():
        return ""
    for line in card.read_text().splitlines():
        if line.startswith("license:"):
            return f"; of the model, says its card: {line.partition(':')[2].strip()}"
    return ""


def load(store: moorage.Store, file: Path) -> list[str]:
    began = time.perf_counter()
    store.import_safetensors(str(file))
    seconds = time.perf_counter() - began
    keys = sorted(store.keys())
    print(f"Loaded   {len(keys)} tensors, straight from the file into the store, in {seconds * 1e3:.0f} ms")
    return keys


def check_arrays(store: moorage.Store, file: Path, keys: list[str]) -> int:
    """Each array view against what the safetensors library reads; no byte of the store's is copied for it."""
    copied_before = copied_out(store)
    with safe_open(str(file), framework="np") as reference:
        names = sorted(reference.keys())
        if names != keys:
            sys.exit("the store and the file do not have the same names")
        for key in keys:
            same_bits(key, store.get_array(key), reference.get_tensor(key))
    copied = copied_out(store) - copied_before
    print(f"numpy    {len(keys)} views, equal bit by bit; copied to hand them out: {copied} bytes")
    if copied:
        sys.exit("a view was copied")
    return copied


def same_bits(key: str, view: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    if view.dtype != wanted.dtype or view.shape != wanted.shape or view.flags.writeable:
        sys.exit(f"{key}: {view.dtype}{view.shape}, expected a read-only {wanted.dtype}{wanted.shape}")
    if not np.array_equal(np.ravel(view).view(np.uint8), np.ravel(wanted).view(np.uint8)):
        sys.exit(f"{key}: the bytes differ")


def check_tensors(store: moorage.Store, file: Path, keys: list[str]) -> int:
    import torch

    copied_before = copied_out(store)
    with safe_open(str(file), framework="pt") as reference:
        for key in keys:
            view, wanted = store.get_tensor(key, mode="view"), reference.get_tensor(key)
            if view.dtype != wanted.dtype or not torch.equal(view.view(torch.uint8), wanted.view(torch.uint8)):
                sys.exit(f"{key}: the tensor differs")
    copied = copied_out(store) - copied_before
    print(f"torch    {len(keys)} views, equal bit by bit; copied to hand them out: {copied} bytes")
    if copied:
        sys.exit("a view was copied")
    return copied


def copied_out(store: moorage.Store) -> int:
    return int(store.stats().bytes_copied_out)


def show_places(store: moorage.Store, keys: list[str]) -> None:
    """Views are addresses in the store's one read-only mapping of its memory, the same whenever they are asked for."""
    print("\nWhere the bytes lie (largest five)")
    views = {key: store.get_array(key) for key in keys}
    lowest = min(view.ctypes.data for view in views.values())
    for key in sorted(keys, key=lambda name: -views[name].nbytes)[:5]:
        view = views[key]
        again = store.get_array(key).ctypes.data == view.ctypes.data
        place = f"{view.ctypes.data:#x}  (+{(view.ctypes.data - lowest) / 1e6:7.1f} MB)"
        print(f"  {place}  {view.nbytes / 1e6:7.2f} MB  {mapping_of(view.ctypes.data)}  same again: {again}  {key}")


def mapping_of(address: int) -> str:
    """What the kernel says of the mapping that the address lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(None, 5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return f"{rights} {' '.join(name) or 'anonymous'}"
    return "not mapped"


def show_times(store: moorage.Store, file: Path, keys: list[str]) -> None:
    """All tensors once, in each way; the median of a few rounds, per tensor."""
    total = sum(store.get_array(key).nbytes for key in keys)
    print(f"\nTime of one get, over all {len(keys)} tensors ({total / 1e6:.1f} MB)")
    ways = list(array_ways(store, file)) + (list(tensor_ways(store, file)) if HAS_TORCH else [])
    for name, get in ways:
        print(f"  {name:<44} {per_get(get, keys) * 1e6:9.2f} us")


def array_ways(store: moorage.Store, file: Path) -> Iterator[tuple[str, Callable[[str], object]]]:
    reference = safe_open(str(file), framework="np")
    yield "store.get_array (view)", store.get_array
    yield "safetensors safe_open().get_tensor, numpy", reference.get_tensor
    yield "a plain copy (numpy.copy of the view)", lambda key: store.get_array(key).copy()


def tensor_ways(store: moorage.Store, file: Path) -> Iterator[tuple[str, Callable[[str], object]]]:
    reference = safe_open(str(file), framework="pt")
    yield 'store.get_tensor(mode="view")', lambda key: store.get_tensor(key, mode="view")
    yield "store.get_tensor (copy-on-write, the default)", store.get_tensor
    yield "safetensors safe_open().get_tensor, torch", reference.get_tensor
    yield "a plain copy (torch clone of the view)", lambda key: store.get_tensor(key, mode="view").clone()


def per_get(get: Callable[[str], object], keys: list[str], rounds: int = ROUNDS) -> float:
    spans = []
    for _ in range(rounds):
        began = time.perf_counter()
        for key in keys:
            get(key)
        spans.append(time.perf_counter() - began)
    return statistics.median(spans) / len(keys)


def show_copies(store: moorage.Store, copied_by_views: int) -> None:
    stats = store.stats()
    print("\nWhat was copied, as the store counted it")
    print(f"  into the store   {stats.bytes_copied_in / 1e6:8.2f} MB, once, from the file")
    print(f"  for views        {copied_by_views / 1e6:8.2f} MB")
    if HAS_TORCH:
        windows = stats.bytes_copied_out - copied_by_views
        why = "below 64 KiB a copy costs less than a window"
        print(f"  for copy-on-write{windows / 1e6:8.2f} MB in {ROUNDS} rounds: {why}")
    print(f"  memory in use    {stats.used / 1e6:8.2f} MB of {stats.capacity / 1e6:.2f} MB, {stats.objects} objects")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
