"""Tensors on another device: in through the store's memory, out through a view that is let go.

The device is one that torch lets us make (fake_device.py), since there is no other on most machines: torch's dispatch,
`.to` and `copy_` are the real ones. What a GPU does beside that, streams and page-locked memory, is not tested here.
"""

from __future__ import annotations

import textwrap

import pytest
from programs import run_prepared

import moorage

torch = pytest.importorskip("torch", reason="probed torch: not installed")

import fake_device  # noqa: E402

_PREPARE = """
import gc, sys
import torch, moorage
import fake_device
from fake_device import copies, failing
fake_device.register()
store = moorage.Store("64MiB")
def on_pier(t):
    there = t.to("pier")
    copies.clear()
    return there
def fails(what, kind, *words):
    try:
        what()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("no exception")
"""


def run(code: str) -> None:
    if not fake_device.supported():
        pytest.skip("probed torch.utils.backend_registration: no devices made in Python")
    run_prepared(_PREPARE + textwrap.dedent(code) + "\ndel store\n").cleanly()


def test_put_goes_through_the_memory_of_the_store() -> None:
    run(
        """
        for shape in ((), (0,), (3,), (2, 3), (300, 70), (1000, 1000)):
            for dtype in (torch.float32, torch.int64, torch.uint8, torch.bool, torch.complex64):
                t = (torch.arange(max(1, torch.Size(shape).numel())) % 199).to(dtype)[:torch.Size(shape).numel()]
                t = t.view(shape)
                there = on_pier(t)
                before = store.stats()
                assert store.put_tensor("k", there, meta=b"m")
                after = store.stats()
                assert copies in ([("pier", "cpu", False)], []) and (copies or not t.numel()), copies
                got = store.get_tensor("k")
                assert got.dtype == dtype and got.shape == t.shape and torch.equal(got, t), (shape, dtype)
                assert store.describe("k").meta == b"m"
                staged = t.numel() * t.element_size() >= 64 << 10
                assert after.adoptions - before.adoptions == staged
                assert staged == (after.bytes_copied_in == before.bytes_copied_in) or not t.numel()
                del got
        there = on_pier(torch.ones(100_000))
        assert store.put_tensor("k", there, if_exists="keep") is False
        fails(lambda: store.put_tensor("k", there, if_exists="raise"), moorage.ExistsError)
        items = {"a": there, "b": torch.ones(3), "c": on_pier(torch.zeros(3))}
        assert store.put_tensors(items) == dict.fromkeys("abc", True)
        assert store.get_tensor("a").sum() == 100_000 and store.get_tensor("c").sum() == 0
        assert store.borrows() == [], store.borrows()
        """
    )


def test_get_moves_and_lets_the_view_go() -> None:
    run(
        """
        for size in (3, 100_000):
            t = torch.arange(float(size))
            store.put_tensor("k", t)
            for device in ("pier", "pier:0", torch.device("pier"), torch.device("pier", 0)):
                before = store.stats()
                copies.clear()
                there = store.get_tensor("k", device=device)
                assert there.device == torch.device("pier:0") and copies == [("cpu", "pier", False)]
                assert store.borrows() == []
                after = store.stats()
                assert (after.windows, after.bytes_copied_out) == (0, before.bytes_copied_out)  # no copy but torch's
                store.put_tensor("k", torch.zeros(size))
                store.clear()
                for n in range(20):
                    store.put_tensor(f"over {n}", torch.full((size,), 7.0))
                assert torch.equal(there.cpu(), t)
                store.put_tensor("k", t)
        here = store.get_tensor("k", device="cpu")
        assert store.stats().windows == 1 and torch.equal(here, t)
        del here
        store.put("bytes", b"abc")
        assert store.get_tensor("bytes", device="pier").cpu().tolist() == [97, 98, 99]
        """
    )


def test_a_copy_that_does_not_wait_would_read_memory_that_was_let_go() -> None:
    """So only CUDA, which promises to have read it, is asked not to wait."""
    run(
        """
        store.put_tensor("k", torch.ones(100_000))
        there = store.get_tensor("k", device="pier", non_blocking=True)
        assert copies == [("cpu", "pier", False)], copies
        assert store.borrows() == []
        """
    )


def test_copies_that_fail() -> None:
    run(
        """
        store.put_tensor("k", torch.ones(100_000))
        large, small = on_pier(torch.zeros(100_000)), on_pier(torch.zeros(2))
        used = store.stats().used
        for do in (lambda: store.get_tensor("k", device="pier"), lambda: store.put_tensor("k", large),
                   lambda: store.put_tensor("new", small)):
            failing.append(OSError("the device fell into the water"))
            fails(do, OSError, "fell into the water")
            gc.collect()
            assert store.borrows() == [], store.borrows()
        assert store.stats().used == used
        assert store.get_tensor("k").sum() == 100_000
        """
    )


def test_what_cannot_be_on_another_device() -> None:
    run(
        """
        there = on_pier(torch.zeros(10))
        store.put_tensor("k", torch.ones(10))
        fails(lambda: store.adopt("x", there), moorage.UnsupportedError, "empty", "put_tensor")
        fails(lambda: store.get_into("k", there), TypeError, "out", "CPU")
        fails(lambda: store.get_tensor("k", device="pier", mode="what"), ValueError, "mode")
        fails(lambda: store.get_tensor("none", device="pier"), KeyError, "none")
        full = torch.zeros(20 << 20).to("pier")
        fails(lambda: store.put_tensor("full", full), moorage.CapacityError, "capacity")
        assert store.keys() == ["k"] and store.borrows() == []
        """
    )


# ---- without another device ----


def test_the_cpu_is_the_ordinary_view(store: moorage.Store) -> None:
    store.put_tensor("k", torch.arange(100_000))
    view = store.get_tensor("k", mode="view")
    for device in ("cpu", "cpu:0", torch.device("cpu")):
        again = store.get_tensor("k", mode="view", device=device, non_blocking=True)
        assert again.data_ptr() == view.data_ptr()
        del again
    assert store.describe("k").views == 1
    del view


@pytest.mark.parametrize("device", ["nope", "", "cpu:x", "cuda:-7"])
def test_devices_that_torch_does_not_know(store: moorage.Store, device: str) -> None:
    store.put_tensor("k", torch.ones(3))
    with pytest.raises(moorage.InvalidArgumentError, match="device"):
        store.get_tensor("k", device=device)
    assert store.borrows() == []


@pytest.mark.parametrize("device", [1.5, object(), torch.float32, ["cpu"]])
def test_what_is_no_device(store: moorage.Store, device: object) -> None:
    store.put_tensor("k", torch.ones(3))
    with pytest.raises(TypeError, match="device must be"):
        store.get_tensor("k", device=device)
    assert store.borrows() == []


def test_a_device_that_is_not_here(store: moorage.Store) -> None:
    if torch.cuda.is_available():
        pytest.skip("probed torch.cuda: there is one")
    store.put_tensor("k", torch.ones(3))
    with pytest.raises((RuntimeError, AssertionError)):  # torch's own, which knows better what is missing
        store.get_tensor("k", device="cuda")
    assert store.borrows() == []


def test_meta(store: moorage.Store) -> None:
    """Shape and dtype without bytes, as torch gives it; nothing to store the other way round."""
    store.put_tensor("k", torch.ones(3, 5, dtype=torch.bfloat16))
    there = store.get_tensor("k", device="meta")
    assert there.is_meta and there.shape == (3, 5) and there.dtype is torch.bfloat16
    assert store.borrows() == []
    with pytest.raises(TypeError, match="materialize"):
        store.put_tensor("k", there)
    assert store.get_tensor("k").sum() == 15


def test_fake_tensors_have_no_bytes(store: moorage.Store) -> None:
    from torch._subclasses import FakeTensorMode

    store.put_tensor("k", torch.ones(3))
    with FakeTensorMode() as mode:
        for t in (torch.empty(3), torch.empty(3, device="cuda")):
            with pytest.raises(TypeError, match="FakeTensor"):
                store.put_tensor("k", t)
    with pytest.raises(TypeError, match="FakeTensor"):
        store.put_tensor("k", mode.from_tensor(torch.ones(3)))
    assert store.get_tensor("k").sum() == 3
