"""Weights shared by threads, without copies. Needs numpy.

    python numpy_example.py [MODEL.safetensors]

With a file it works on real weights, else on random ones.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import moorage


def load(store: moorage.Store, path: str | None) -> None:
    if path is not None:
        print(f"imported {store.import_safetensors(path)} tensors")
        return
    rng = np.random.default_rng(0)
    for i in range(8):
        store.put_tensor(f"layer.{i}.weight", rng.standard_normal((512, 384), dtype=np.float32))
    print("made 8 random tensors")


def norms(store: moorage.Store) -> dict[str, float]:
    """Every thread reads the same memory: a view costs the same at any size, and nothing is copied."""

    def norm(key: str) -> float:
        return float(np.linalg.norm(store.get_array(key).astype(np.float64)))

    keys = store.keys()
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(keys, pool.map(norm, keys)))


def pick_matrix(store: moorage.Store) -> str:
    """The largest float matrix whose product with itself is not too large."""
    found = [store.describe(key) for key in sorted(store.keys())]
    matrices = [one for one in found if len(one.shape) == 2 and one.shape[0] <= 2048 and one.dtype == "float32"]
    return max(matrices, key=lambda one: one.nbytes).key


def change_a_copy(store: moorage.Store, key: str) -> None:
    """A window is an ordinary writable array. What is written to it stays in it."""
    window = store.get_array(key, mode="cow")
    window *= 0
    assert not window.any() and store.get_array(key).any()


def replace_under_a_reader(store: moorage.Store, key: str) -> None:
    """Whoever holds a view keeps the bytes he got."""
    before = store.get_array(key)
    wanted = before.copy()
    store.put_tensor(key, np.zeros_like(before))
    assert np.array_equal(before, wanted) and not store.get_array(key).any()


def produce_in_place(store: moorage.Store, key: str) -> None:
    """A product is computed into the store's memory and gets a name there."""
    weight = store.get_array(key)
    product = store.empty((weight.shape[0], weight.shape[0]), weight.dtype)
    np.matmul(weight, weight.T, out=product)
    store.adopt("product", product)
    print(f"product: {product.nbytes} bytes, {store.stats().adopt_copies} copies")


def read_in_batches(store: moorage.Store, key: str) -> int:
    """One buffer, used again for each piece of an object."""
    size, done = store.describe(key).nbytes, 0
    piece = bytearray(64 << 10)
    while done < size:
        done += store.get_into(key, piece, offset=done, nbytes=min(len(piece), size - done))
    return done


def main(path: str | None) -> None:
    capacity = (64 << 20) + (3 * os.path.getsize(path) if path else 0)  # used when written to
    with moorage.Store(capacity) as store:
        load(store, path)
        largest = sorted(norms(store).items(), key=lambda item: -item[1])[:3]
        print("largest norms:", ", ".join(f"{key} {norm:.1f}" for key, norm in largest))
        key = pick_matrix(store)
        change_a_copy(store, key)
        produce_in_place(store, key)
        print(f"read {read_in_batches(store, key)} bytes of {key} through one buffer")
        replace_under_a_reader(store, key)
        kept = store.get_array("product")  # so that close says, in the log, that it is still viewed
        stats = store.stats()
        print(f"copied in {stats.bytes_copied_in} bytes, out {stats.bytes_copied_out}, in {stats.gets} gets")
    print(f"after close: product is still {kept.shape}, its trace {np.trace(kept):.1f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
