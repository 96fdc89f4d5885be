"""Metadata and payload in one object, as stores of KV caches keep them: written in parts, read without a copy, given to
torch by an offset.
"""

from __future__ import annotations

import gc
import json
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import moorage

torch = pytest.importorskip("torch")

HEADER = struct.Struct("<I252s")


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of read-only buffers
        with moorage.Store("8MiB") as opened:
            yield opened


def put(store: moorage.Store, key: str, tensor: Any) -> None:
    about = json.dumps({"dtype": str(tensor.dtype), "shape": list(tensor.shape)}).encode()
    assert store.put_parts(key, HEADER.pack(len(about), about), tensor.numpy())


def get(store: moorage.Store, key: str) -> Any:
    buf = store.get_buffer(key, mode="cow")
    size, about = HEADER.unpack(memoryview(buf)[: HEADER.size])
    described = json.loads(about[:size])
    dtype = getattr(torch, described["dtype"].partition(".")[2])
    return torch.frombuffer(buf, dtype=dtype, offset=HEADER.size).reshape(described["shape"])


@pytest.mark.parametrize("rows", [3, 1000], ids=["copied because it is small", "a window"])
def test_the_recipe(store: moorage.Store, rows: int) -> None:
    original = torch.arange(rows * 64, dtype=torch.float32).reshape(rows, 64)
    put(store, "block", original)
    before = store.stats()
    tensor = get(store, "block")
    after = store.stats()
    assert torch.equal(tensor, original)
    assert after.windows - before.windows == (rows == 1000)
    assert (after.bytes_copied_out - before.bytes_copied_out == 0) == (rows == 1000)


def test_writing_to_it_is_safe_and_changes_nothing_in_the_store(store: moorage.Store) -> None:
    original = torch.arange(64_000, dtype=torch.float32)
    put(store, "block", original)
    whole = store.get("block")
    tensor = get(store, "block")
    tensor.mul_(0)
    tensor[5] = -1
    assert tensor[5] == -1 and tensor.sum() == -1
    assert store.get("block") == whole
    assert torch.equal(get(store, "block"), original)


def test_the_tensor_outlives_buffer_name_and_store(store: moorage.Store) -> None:
    original = torch.arange(64_000, dtype=torch.float32)
    put(store, "block", original)
    part = get(store, "block")[100:200]
    gc.collect()
    store.put("block", b"something else")
    store.remove("block")
    for i in range(50):
        store.put(f"more{i}", b"\xee" * 100_000)
    assert torch.equal(part, original[100:200])
    store.close()
    gc.collect()
    assert torch.equal(part, original[100:200])
    part += 1


def test_without_a_copy_mode_view_gives_numpy_the_same_bytes_read_only(store: moorage.Store) -> None:
    original = np.arange(64_000, dtype=np.float32)
    put(store, "block", torch.from_numpy(original))
    before = store.stats().bytes_copied_out
    buf = store.get_buffer("block")
    payload = np.frombuffer(buf, np.float32, offset=HEADER.size)
    assert bool((payload == original).all()) and not payload.flags.writeable
    assert store.stats().bytes_copied_out == before
    with pytest.raises(BufferError):
        buf.release()
    del payload
    buf.release()
    assert store.borrows() == []


def test_parts_of_every_kind(store: moorage.Store) -> None:
    strided = np.arange(100, dtype=np.uint16)[::-2]
    assert store.put_parts("k", b"abc", bytearray(b"def"), memoryview(b"ghi")[1:], strided, b"", meta=b"about")
    assert store.get("k") == b"abcdefhi" + strided.tobytes()
    assert store.describe("k").meta == b"about"
    assert store.put_parts("k", b"new", if_exists="keep") is False
    with pytest.raises(moorage.ExistsError):
        store.put_parts("k", b"new", if_exists="raise")
    with pytest.raises(TypeError, match="part 1"):
        store.put_parts("k", b"a", "text")
    assert store.put_parts("nothing")
    assert store.get("nothing") == b""
