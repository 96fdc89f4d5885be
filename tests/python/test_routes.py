"""Both routes to the library, and what chooses between them. All tests are run on each; here they are compared."""

from __future__ import annotations

import pytest
from programs import run, run_prepared

PROGRAM = """
import gc
import numpy as np
import moorage

def shown(operation):
    try:
        result = operation()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(result, np.ndarray):
        return f"array {result.dtype} {result.shape} {result.flags.writeable} {result.tobytes()[:20]}"
    return repr(result)

store = moorage.Store("1MiB")
data = np.arange(12, dtype=np.float32).reshape(3, 4)
steps = [
    lambda: store.put("bytes", b"abc", meta=b"m"),
    lambda: store.put("bytes", memoryview(b"abcdef")[::2]),
    lambda: store.put("bytes", b"abc", if_exists="keep"),
    lambda: store.put("bytes", b"abc", if_exists="raise"),
    lambda: store.put("bytes", b"abc", if_exists="other"),
    lambda: store.put("bytes", "text"),
    lambda: store.put("bytes", 3),
    lambda: store.put(3, b"abc"),
    lambda: store.put("", b"abc"),
    lambda: store.put("k" * 4097, b"abc"),
    lambda: store.put("bytes", b"abc", meta=bytes(4097)),
    lambda: store.put("bytes", b"abc", meta="text"),
    lambda: store.put("large", bytes(2 << 20)),
    lambda: store.put_tensor("array", data),
    lambda: store.put_tensor("array", data[::-1, ::2]),
    lambda: store.put_tensor("scalar", np.float16(3)),
    lambda: store.put_tensor("empty", np.zeros((0, 3), np.int8)),
    lambda: store.put_tensor("objects", np.array([None])),
    lambda: store.put_tensor("list", [1, 2]),
    lambda: store.get("bytes"),
    lambda: store.get("absent"),
    lambda: store.get("absent", b"default"),
    lambda: store.get(3),
    lambda: store.get(""),
    *[lambda m=mode, k=key: store.get_array(k, mode=m) for mode in ("view", "cow", "copy", "x") for key in
      ("bytes", "array", "scalar", "empty", "absent", "", 3)],
    *[lambda m=mode, k=key: bytes(store.get_buffer(k, mode=m)) for mode in ("view", "cow", "copy", "x") for key in
      ("bytes", "array", "scalar", "empty", "absent", "", 3)],
    lambda: repr(store.get_buffer("array")),
    lambda: store.get_buffer("array").shape,
    lambda: store.get_buffer("array").dtype,
    lambda: memoryview(store.get_buffer("array")).readonly,
    lambda: memoryview(store.get_buffer("array", mode="cow")).readonly,
    lambda: "bytes" in store,
    lambda: "absent" in store,
    lambda: 3 in store,
    lambda: len(store),
    lambda: store["bytes"],
    lambda: iter(store),
    lambda: store.exists(["bytes", "absent"]),
    lambda: store.count_leading(["bytes", "array", "absent", "scalar"]),
    lambda: sorted(store.keys()),
    lambda: store.describe("array"),
    lambda: (gc.collect(), store.borrows())[1],
    lambda: store.remove("bytes"),
    lambda: store.remove("bytes"),
    lambda: store.close(),
    lambda: store.get("array"),
    lambda: store.get_array("array"),
    lambda: store.get_buffer("array"),
    lambda: store.put("array", b""),
    lambda: "array" in store,
    lambda: repr(store),
]
for number, step in enumerate(steps):
    print(number, shown(step))
"""

OF_TORCH = """
import gc
import torch
import moorage
torch.set_num_threads(1)

def shown(operation):
    try:
        result = operation()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(result, torch.Tensor):
        return f"tensor {result.dtype} {tuple(result.shape)} {result.reshape(-1)[:4].tolist()}"
    return repr(result)

store = moorage.Store("1MiB")
t = torch.arange(12.0).reshape(3, 4)
steps = [
    lambda: store.put_tensor("t", t),
    lambda: store.put_tensor("t", t.T, if_exists="keep"),
    lambda: store.put_tensor("turned", t.T[::2], meta=b"m"),
    lambda: store.put_tensor("half", t.bfloat16()),
    lambda: store.put_tensor("p", torch.nn.Parameter(t)),
    lambda: store.put_tensor("conj", (t + 1j).conj()),
    lambda: store.put_tensor("sparse", t.to_sparse()),
    lambda: store.put_tensor("", t),
    lambda: store.put_tensor(3, t),
    lambda: store.put("bytes", b"abc"),
    *[lambda m=mode, k=key: store.get_tensor(k, mode=m) for mode in (None, "view", "cow", "copy", "x") for key in
      ("t", "turned", "half", "p", "conj", "bytes", "absent", "", 3)],
    lambda: store.get_tensors(["t", "bytes"]),
    lambda: store.get_tensors(["t", "absent"]),
    lambda: store.get_tensors(["t", "absent"], missing="none"),
    lambda: store.get_tensors(["t", 3]),
    lambda: store.get_tensors([]),
    lambda: (gc.collect(), store.borrows())[1],
    lambda: store.pop_tensor("t"),
    lambda: store.pop_tensor("t"),
    lambda: store.close(),
    lambda: store.get_tensor("half"),
    lambda: store.get_tensors(["half"]),
]
for number, step in enumerate(steps):
    print(number, shown(step))
"""


@pytest.mark.parametrize("program, torch", [(PROGRAM, False), (OF_TORCH, True)], ids=["numpy", "torch"])
def test_both_routes_answer_the_same(program: str, torch: bool) -> None:
    if torch:
        pytest.importorskip("torch")
    said = {}
    for route in ("builtin", "ctypes"):
        said[route] = run_prepared(program, env={"MOORAGE_ROUTE": route}, torch=torch).cleanly().out.splitlines()
    assert len(said["builtin"]) > 30
    assert said["builtin"] == said["ctypes"]


def test_a_route_that_does_not_exist_is_refused() -> None:
    ended = run("import moorage; moorage.Store('1MiB')", env={"MOORAGE_ROUTE": "fast"})
    assert ended.status == 1
    assert "MOORAGE_ROUTE must be builtin or ctypes, not 'fast'" in ended.error


def test_a_library_that_does_not_exist_is_named() -> None:
    ended = run("import moorage; moorage.Store('1MiB')", env={"MOORAGE_LIBRARY": "/nowhere/libmoorage.so"})
    assert ended.status == 1
    assert "ImportError" in ended.error and "/nowhere/libmoorage.so" in ended.error


def test_importing_loads_nothing() -> None:
    ended = run(
        """
        import sys
        import moorage
        assert not {"numpy", "torch"} & set(sys.modules)
        assert "libmoorage" not in open("/proc/self/maps").read()
        store = moorage.Store("1MiB")
        store.put("k", b"v")
        assert store.get("k") == b"v" and bytes(store.get_buffer("k")) == b"v"
        assert not {"numpy", "torch"} & set(sys.modules)
        """
    )
    ended.cleanly()
