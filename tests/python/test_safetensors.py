"""Files of safetensors, beside the library of that name: what it writes is read, what is written it reads, and what is
damaged is refused with nothing stored.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moorage

safetensors = pytest.importorskip("safetensors")
sn = pytest.importorskip("safetensors.numpy")

NUMPY = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8"]


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with moorage.Store("64MiB") as opened:
        yield opened


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(1)
    made = {}
    for dtype in NUMPY:
        raw = random.integers(0, 256, 3 * 5 * np.dtype(dtype).itemsize, np.uint8)
        raw = raw & 1 if dtype == "?" else raw
        made[f"of {dtype}"] = raw.view(dtype).reshape(3, 5)
    made["no elements"] = np.zeros((0, 4), np.float32)
    made["no dimensions"] = np.array(7, np.int64)
    made["имя"] = np.arange(100_000, dtype=np.int32)
    return made


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# ---- back and forth ----


def test_import_gives_what_the_library_wrote(store: moorage.Store, tmp_path: Path) -> None:
    made = arrays()
    sn.save_file(made, tmp_path / "a.safetensors", metadata={"format": "np"})
    assert store.import_safetensors(tmp_path / "a.safetensors") == len(made)
    assert sorted(store.keys()) == sorted(made)
    for name, array in made.items():
        assert same(store.get_array(name), array), name


def test_export_is_what_the_library_reads(store: moorage.Store, tmp_path: Path) -> None:
    made = arrays()
    for name, array in made.items():
        store.put_tensor(name, array)
    store.export_safetensors(tmp_path / "a.safetensors")
    read = sn.load_file(tmp_path / "a.safetensors")
    assert sorted(read) == sorted(made)
    for name, array in made.items():
        assert same(read[name], array), name
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_every_dtype_of_torch(store: moorage.Store, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    st_torch = pytest.importorskip("safetensors.torch")
    names = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16"]
    names += ["float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
    made = {}
    for name in names:
        dtype = getattr(torch, name)
        raw = torch.randint(0, 2, (4 * dtype.itemsize,), dtype=torch.uint8)
        made[name] = raw.view(dtype).reshape(2, 2)
    st_torch.save_file(made, tmp_path / "a.safetensors")
    assert store.import_safetensors(tmp_path / "a.safetensors") == len(made)
    for name, tensor in made.items():
        got = store.get_tensor(name)
        assert got.dtype == tensor.dtype and got.shape == tensor.shape
        assert torch.equal(got.view(torch.uint8), tensor.view(torch.uint8))
        assert store.describe(name).dtype == name
    store.export_safetensors(tmp_path / "b.safetensors")
    again = st_torch.load_file(tmp_path / "b.safetensors")
    for name, tensor in made.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name].view(torch.uint8), tensor.view(torch.uint8))


def test_bytes_are_exported_as_uint8(store: moorage.Store, tmp_path: Path) -> None:
    store.put("k", b"bytes")
    store.export_safetensors(tmp_path / "a.safetensors", ["k"])
    assert sn.load_file(tmp_path / "a.safetensors")["k"].tobytes() == b"bytes"


def test_prefix(store: moorage.Store, tmp_path: Path) -> None:
    sn.save_file({"w": np.ones(3), "b": np.zeros(3)}, tmp_path / "a.safetensors")
    assert store.import_safetensors(str(tmp_path / "a.safetensors"), "layer.0.") == 2
    assert sorted(store.keys()) == ["layer.0.b", "layer.0.w"]
    store.put_tensor("other", np.ones(1))
    store.export_safetensors(tmp_path / "b.safetensors", prefix="layer.0.")
    assert sorted(sn.load_file(tmp_path / "b.safetensors")) == ["b", "w"]
    with pytest.raises(moorage.InvalidArgumentError, match="other"):
        store.export_safetensors(tmp_path / "c.safetensors", ["other"], prefix="layer.0.")
    with pytest.raises(moorage.NotFoundError, match="absent"):
        store.export_safetensors(tmp_path / "c.safetensors", ["layer.0.w", "absent"])
    assert not (tmp_path / "c.safetensors").exists()


def test_an_export_replaces_a_file_only_when_it_is_complete(store: moorage.Store, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    store.put_tensor("k", np.ones(3_000_000))

    def stop(done: int, total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        store.export_safetensors(path, progress=stop)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.safetensors"]
    store.export_safetensors(path)
    assert same(sn.load_file(path)["k"], np.ones(3_000_000))


@pytest.mark.parametrize("how, stored", [("replace", 2), ("keep", 1)])
def test_names_that_are_taken(store: moorage.Store, tmp_path: Path, how: Any, stored: int) -> None:
    sn.save_file({"a": np.ones(3), "b": np.ones(3)}, tmp_path / "a.safetensors")
    store.put("a", b"old")
    assert store.import_safetensors(tmp_path / "a.safetensors", if_exists=how) == stored
    assert (store.get("a") == b"old") == (how == "keep")
    assert same(store.get_array("b"), np.ones(3))


def test_names_that_are_taken_may_stop_the_import(store: moorage.Store, tmp_path: Path) -> None:
    sn.save_file({"a": np.ones(3), "b": np.ones(3)}, tmp_path / "a.safetensors")
    store.put("b", b"old")
    used = store.stats().used
    with pytest.raises(moorage.ExistsError, match="b"):
        store.import_safetensors(tmp_path / "a.safetensors", if_exists="raise")
    assert store.keys() == ["b"] and store.get("b") == b"old" and store.stats().used == used


def test_files_through_several_stores_and_threads(tmp_path: Path) -> None:
    """Larger than the pieces in which it is read."""
    big = {f"t{i}": np.full(5_000_000, i, np.uint8) for i in range(6)}
    path = tmp_path / "a.safetensors"
    sn.save_file(big, path)
    with moorage.Store("256MiB") as store:
        failed: list[BaseException] = []

        def work(n: int) -> None:
            try:
                assert store.import_safetensors(path, f"{n}/") == 6
                store.export_safetensors(tmp_path / f"{n}.safetensors", prefix=f"{n}/")
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        for n in range(3):
            read = sn.load_file(tmp_path / f"{n}.safetensors")
            assert all(same(read[name], array) for name, array in big.items())


# ---- progress ----


def test_progress_rises_to_the_whole(store: moorage.Store, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sn.save_file({"a": np.ones(20 << 20, np.uint8)}, path)
    steps: list[tuple[int, int]] = []
    store.import_safetensors(path, progress=lambda done, total: steps.append((done, total)))
    assert steps and steps == sorted(steps)
    assert {total for _, total in steps} == {20 << 20}
    assert steps[-1][0] == 20 << 20


@pytest.mark.parametrize("size", [100, 10 << 20])
@pytest.mark.parametrize("last", [False, True])
def test_an_exception_in_progress_comes_out_and_nothing_is_stored(
    store: moorage.Store, tmp_path: Path, size: int, last: bool
) -> None:
    """At the last step too: nothing has a name before `progress` has agreed to the whole."""
    path = tmp_path / "a.safetensors"
    sn.save_file({f"{i}": np.ones(size, np.uint8) for i in range(3)}, path)

    class Enough(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if not last or done == total:
            raise Enough

    with pytest.raises(Enough):
        store.import_safetensors(path, progress=stop)
    assert store.keys() == [] and store.stats().used == 0
    assert store.import_safetensors(path) == 3
    with pytest.raises(Enough):
        store.export_safetensors(tmp_path / "b.safetensors", progress=stop)
    assert os.listdir(tmp_path) == ["a.safetensors"]


# ---- what is refused ----


def file_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


HOSTILE = {
    "empty": b"",
    "shorter than its length field": b"\x10\0\0",
    "no header": file_of(b""),
    "header longer than the file": file_of({}, length=1000),
    "huge header": file_of({}, length=(1 << 63) + 5),
    "header of almost 2**64": file_of({}, length=(1 << 64) - 1),
    "garbage": bytes(range(256)) * 4,
    "not JSON": file_of(b"{nonsense}"),
    "not UTF-8": file_of(b'{"\xff\xfe": {}}'),
    "an array": file_of(b"[]"),
    "a number": file_of(b"3"),
    "JSON and more": file_of(b"{} {}"),
    "deep": file_of(b'{"a":' * 50_000),
    "overlap": file_of({"a": tensor(0, 10), "b": tensor(5, 15)}, bytes(15)),
    "a hole": file_of({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)),
    "duplicate names": file_of(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        b"ab",
    ),
    "data cut off": file_of({"a": tensor(0, 100)}, bytes(99)),
    "more data than tensors": file_of({"a": tensor(0, 4)}, bytes(8)),
    "end before begin": file_of({"a": {"dtype": "U8", "shape": [0], "data_offsets": [4, 0]}}, bytes(4)),
    "negative offset": file_of({"a": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}}, bytes(4)),
    "negative shape": file_of({"a": tensor(0, 4, shape=[-4])}, bytes(4)),
    "shape that does not fit": file_of({"a": tensor(0, 4, shape=[5])}, bytes(4)),
    "shape that overflows": file_of({"a": tensor(0, 0, "F64", [1 << 62, 4])}),
    "shape that wraps round to fit": file_of({"a": tensor(0, 4, shape=[(1 << 62) + 1, 4])}, bytes(4)),
    "fractional shape": file_of({"a": tensor(0, 4, shape=[4.5])}, bytes(4)),
    "offsets past 2**64": file_of({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1 << 64, (1 << 64) + 1]}}, b"a"),
    "unknown dtype": file_of({"a": tensor(0, 4, "Q9")}, bytes(4)),
    "no dtype": file_of({"a": {"shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
    "one offset": file_of({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0]}}, bytes(4)),
    "100 dimensions": file_of({"a": tensor(0, 1, shape=[1] * 100)}, b"a"),
    "metadata that is not text": file_of({"__metadata__": {"a": 1}}),
    "an empty name": file_of({"": tensor(0, 1)}, b"a"),
    "a very long name": file_of({"n" * 5000: tensor(0, 1)}, b"a"),
}

REFUSED = (moorage.FormatError, moorage.UnsupportedError, moorage.InvalidArgumentError)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_stored(store: moorage.Store, tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(REFUSED) as caught:
        store.import_safetensors(path)
    assert "hostile.safetensors" in str(caught.value) or name in ("an empty name", "a very long name")
    assert store.keys() == [] and store.stats().used == 0


def test_a_tensor_larger_than_the_store(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sn.save_file({"small": np.ones(3), "large": np.ones(1 << 20)}, path)
    with moorage.Store("1MiB") as store:
        with pytest.raises(moorage.CapacityError, match="capacity"):
            store.import_safetensors(path)
        assert store.keys() == [] and store.stats().used == 0


def test_paths_that_are_no_files(store: moorage.Store, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "absent", tmp_path, fifo, Path("/dev/zero")):
        with pytest.raises(moorage.IOFailedError, match=path.name) as caught:
            store.import_safetensors(path)
        assert isinstance(caught.value, OSError)
    with pytest.raises(ValueError, match="zero byte"):
        store.import_safetensors("a\0b")
    store.put("k", b"x")
    with pytest.raises(moorage.IOFailedError, match="absent"):
        store.export_safetensors(tmp_path / "absent" / "a.safetensors")
    with pytest.raises(moorage.IOFailedError):
        store.export_safetensors(tmp_path)
    with pytest.raises(moorage.IOFailedError, match="not a regular file"):
        store.export_safetensors(fifo)
    assert fifo.is_fifo()


VALID = file_of({"a": tensor(0, 8), "b": tensor(8, 24, "F32", [2, 2]), "__metadata__": {"x": "y"}}, bytes(range(24)))


@settings(max_examples=150, deadline=None, derandomize=True, print_blob=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Never a crash, never half of it. What is read is within the file."""
    damaged = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "add"]))
        if how == "change":
            damaged[at] = data.draw(st.integers(0, 255))
        elif how == "cut" and at:
            del damaged[at : at + data.draw(st.integers(1, 10))]
        else:
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=10))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damaged)
    with moorage.Store("1MiB") as store:
        try:
            count = store.import_safetensors(path)
        except REFUSED:
            assert store.keys() == [] and store.stats().used == 0
            return
        keys = store.keys()
        assert count == len(keys)
        for key in keys:
            assert store.get(key) in bytes(damaged)
