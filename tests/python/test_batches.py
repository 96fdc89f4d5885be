"""put_tensors: one crossing for what is plain, and the same results as one put after the other."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import moorage


def test_many_arrays_of_every_kind(store):
    arrays = {
        "plain": np.arange(12, dtype=np.float32).reshape(3, 4),
        "strided": np.arange(12)[::-2],
        "transposed": np.arange(12, dtype=np.int16).reshape(3, 4).T,
        "big-endian": np.arange(5, dtype=">f8"),
        "bool": np.array([True, False]),
        "complex64": np.array([1 + 2j], np.complex64),
        "complex128": np.array([1 + 2j]),
        "half": np.arange(3, dtype=np.float16),
        "byte": np.arange(3, dtype=np.int8),
        "ubyte": np.arange(3, dtype=np.uint8),
        "ulonglong": np.arange(3, dtype=np.ulonglong),
        "scalar": np.float32(2.5),
        "0-d": np.array(7),
        "empty": np.zeros((0, 3), np.int32),
        "read-only": np.frombuffer(b"12345678", np.int64),
        "matrix": np.matrix([[1, 2], [3, 4]]),
        "64 dims": np.zeros((2,) * 3 + (1,) * 61, np.int8),
        "unaligned": np.frombuffer(b"123456789", np.uint8)[1:].view(np.int32),
    }
    for _ in range(2):  # the first array of a store binds numpy
        assert store.put_tensors(arrays) == dict.fromkeys(arrays, True)
        for key, array in arrays.items():
            got = store.get_array(key)
            assert got.shape == np.shape(array), key
            assert got.dtype == array.dtype.newbyteorder("="), key
            np.testing.assert_array_equal(got, np.asarray(array), err_msg=key)
    assert list(store.put_tensors(arrays, if_exists="keep").values()) == [False] * len(
        arrays
    )
    assert list(store.put_tensors(arrays.items())) == list(arrays)


def test_more_than_one_call_takes(store):
    arrays = {f"{i}": np.full(i % 7, i) for i in range(1500)}
    store.put_tensors(arrays)
    assert all(
        store.get_array(key).tolist() == array.tolist() for key, array in arrays.items()
    )


def test_some_fail_and_the_others_are_stored(open_store):
    store = open_store("1MiB")
    store.put_tensor("there", np.arange(3))
    items = [
        ("a", np.arange(3)),
        ("there", np.arange(4)),
        ("large", np.zeros(1 << 21, np.uint8)),
        ("text", np.array(["x"])),
        ("", np.arange(3)),
        (5, np.arange(3)),
        ("\ud800", np.arange(3)),
        ("list", [1]),
        ("b", np.arange(2)),
    ]
    with pytest.raises(moorage.ExistsError) as raised:
        store.put_tensors(items, if_exists="raise")
    results = raised.value.results
    assert list(results) == [key for key, _ in items]
    assert results["a"] is True
    assert results["b"] is True
    kinds = {key: type(result) for key, result in results.items() if result is not True}
    assert kinds == {
        "there": moorage.ExistsError,
        "large": moorage.CapacityError,
        "text": moorage.UnsupportedError,
        "": moorage.InvalidArgumentError,
        5: TypeError,
        "\ud800": moorage.InvalidArgumentError,
        "list": TypeError,
    }
    assert "there" in str(results["there"])
    assert sorted(store.keys()) == ["a", "b", "there"]
    assert store.get_array("there").tolist() == [0, 1, 2]


def test_a_failure_among_plain_ones(open_store):
    store = open_store("1MiB")
    store.put_tensor("first", np.arange(3))
    items = {"a": np.arange(3), "large": np.zeros(1 << 21, np.uint8), "b": np.arange(2)}
    with pytest.raises(moorage.CapacityError, match="free") as raised:
        store.put_tensors(items)
    assert [raised.value.results[key] for key in ("a", "b")] == [True, True]
    assert raised.value.results["large"] is raised.value


def test_a_key_that_comes_twice_is_put_twice(open_store):
    store = open_store("1MiB")
    store.put_tensors(
        [("k", np.arange(3)), ("other", np.arange(1)), ("k", np.arange(5))]
    )
    assert store.get_array("k").tolist() == [0, 1, 2, 3, 4]
    assert store.stats().puts == 3
    with pytest.raises(moorage.ExistsError) as raised:
        store.put_tensors([("n", np.arange(3)), ("n", np.arange(5))], if_exists="raise")
    assert store.get_array("n").tolist() == [0, 1, 2]
    assert raised.value.results["n"] is raised.value
    with pytest.raises(
        moorage.CapacityError
    ):  # the first fails, and does not come after the second
        store.put_tensors([("m", np.zeros(1 << 21, np.uint8)), ("m", np.arange(5))])
    assert store.get_array("m").tolist() == [0, 1, 2, 3, 4]


def test_what_is_not_pairs_stores_nothing(store):
    with pytest.raises((TypeError, ValueError)):
        store.put_tensors([("a", np.arange(3)), 5])
    with pytest.raises(TypeError, match="unhashable"):
        store.put_tensors([("a", np.arange(3)), ([], np.arange(3))])
    with pytest.raises(moorage.InvalidArgumentError, match="if_exists"):
        store.put_tensors({"a": np.arange(3)}, if_exists="never")
    assert store.put_tensors({}) == {}
    assert len(store) == 0


def test_after_close(open_store):
    store = open_store()
    store.put_tensors({"a": np.arange(3)})
    store.close()
    with pytest.raises(moorage.ClosedError) as raised:
        store.put_tensors({"a": np.arange(3), "b": np.arange(3)})
    assert all(
        isinstance(result, moorage.ClosedError)
        for result in raised.value.results.values()
    )


def test_the_lists_of_the_caller_may_change_meanwhile(store):
    stop, items = threading.Event(), {f"{i}": np.arange(600) for i in range(100)}
    keys = list(items)

    def change():
        while not stop.is_set():
            keys.append(keys.pop(0))

    store.put_tensors(items)
    torch = pytest.importorskip("torch")
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            store.put_tensors(items)
            assert all(
                isinstance(t, torch.Tensor)
                for t in store.get_tensors(keys, missing="none")
                if t is not None
            )
    finally:
        stop.set()
        thread.join()


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    def test_every_kind_of_tensor(self, store):
        torch = self.torch
        c = torch.complex(torch.arange(3.0), torch.ones(3))
        tensors = {
            "plain": torch.arange(12.0).view(3, 4),
            "parameter": torch.nn.Parameter(torch.ones(3)),
            "transposed": torch.arange(12).view(3, 4).t(),
            "expanded": torch.ones(1).expand(5),
            "conj": c.conj(),
            "neg": c.conj().imag,
            "bfloat16": torch.ones(3, dtype=torch.bfloat16),
            "float8": torch.ones(3).to(torch.float8_e4m3fn),
            "complex32": torch.zeros(3, dtype=torch.complex32),
            "0-d": torch.tensor(3),
            "empty": torch.empty(0, 3),
            "bool": torch.tensor([True, False]),
            "large": torch.arange(100_000),
        }
        items = {**tensors, "array": np.arange(3)}
        for _ in range(2):
            assert store.put_tensors(items) == dict.fromkeys(items, True)
            for key, t in tensors.items():
                got = store.get_tensor(key)
                assert (got.dtype, got.shape) == (t.dtype, t.shape), key
                wanted = t.detach().resolve_conj().resolve_neg().contiguous()
                assert torch.equal(
                    got.view(-1).view(torch.uint8), wanted.view(-1).view(torch.uint8)
                ), key
            assert store.get_array("array").tolist() == [0, 1, 2]

    def test_refused_ones_stop_nobody(self, store):
        torch = self.torch
        items = {"a": torch.ones(2), "sparse": torch.ones(2).to_sparse(), "meta": torch.ones(2, device="meta"),
                 "b": torch.ones(3)}  # fmt: skip
        with pytest.raises(moorage.UnsupportedError, match="sparse") as raised:
            store.put_tensors(items)
        assert sorted(store.keys()) == ["a", "b"]
        assert isinstance(raised.value.results["meta"], moorage.UnsupportedError)

    @pytest.mark.performance
    def test_one_crossing(self, store):
        """128 puts in one call are cheaper than 128 calls."""
        import time

        torch = self.torch
        items = {f"{i}": torch.ones(16) for i in range(128)}
        best = {}
        for _ in range(40):
            for name, call in (
                ("batch", lambda: store.put_tensors(items)),
                (
                    "alone",
                    lambda: [store.put_tensor(key, t) for key, t in items.items()],
                ),
            ):
                begin = time.perf_counter()
                call()
                best[name] = min(best.get(name, 1e9), time.perf_counter() - begin)
        assert best["batch"] < 0.9 * best["alone"]
