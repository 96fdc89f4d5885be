"""The operations that need neither numpy nor torch."""

from __future__ import annotations

import array
import gc
import json
import logging
import struct
import weakref

import pytest

import moorage


def test_put_and_get(store):
    assert store.put("k", b"bytes") is True
    assert store.get("k") == b"bytes"
    assert store.get("missing") is None
    assert store.get("missing", b"default") == b"default"
    assert "k" in store
    assert "missing" not in store
    assert len(store) == 1


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 65535, 65536, 1 << 20, (4 << 20) + 3])
def test_sizes(store, size):
    data = bytes((i * 7 + size) & 255 for i in range(257)) * (size // 257 + 1)
    data = data[:size]
    store.put("k", data)
    assert store.get("k") == data
    for mode in ("view", "cow", "copy"):
        assert bytes(store.get_buffer("k", mode=mode)) == data
    out = bytearray(size)
    assert store.get_into("k", out) == size
    assert out == data


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        array.array("d", [1.5, 2.5, 3.5]),
        memoryview(array.array("i", range(20))),
        memoryview(array.array("i", range(20)))[::2],
        memoryview(array.array("i", range(20)))[::-1],
        memoryview(bytes(range(100)))[10:90:3],
        memoryview(bytes(range(24))).cast("B", (2, 3, 4)),
        memoryview(array.array("d", range(6))).cast("B").cast("d", (2, 3)),
        memoryview(b""),
        memoryview(array.array("q"))[::2],
    ],
    ids=lambda data: f"{type(data).__name__}-{len(memoryview(data))}",
)
def test_put_takes_any_buffer_by_bytes(store, data):
    expected = memoryview(data).tobytes()
    store.put("k", data)
    assert store.get("k") == expected
    description = store.describe("k")
    assert (description.nbytes, description.dtype, description.shape) == (len(expected), None, (len(expected),))
    store.put_parts("parts", b"<", data, b">")
    assert store.get("parts") == b"<" + expected + b">"


def test_large_strided_put(store):
    data = memoryview(array.array("i", range(200_000)))[::3]
    store.put("k", data)
    assert store.get("k") == data.tobytes()


def test_if_exists(store):
    assert store.put("k", b"1")
    assert store.put("k", b"2", if_exists="keep") is False
    assert store.get("k") == b"1"
    assert store.put("k", b"3", if_exists="replace") is True
    assert store.get("k") == b"3"
    assert store.put_parts("k", b"4", if_exists="keep") is False
    with pytest.raises(moorage.ExistsError):
        store.put_parts("k", b"4", if_exists="raise")
    assert store.put("new", b"5", if_exists="keep") is True


def test_sequence_numbers_rise(store):
    numbers = []
    for i in range(5):
        store.put("k", b"%d" % i)
        numbers.append(store.describe("k").seq)
    assert numbers == sorted(set(numbers))
    assert store.stats().last_seq >= numbers[-1]


def test_put_parts(store):
    parts = [b"a", b"", bytearray(b"bc"), memoryview(b"defgh")[1:]]
    store.put_parts("k", *parts, meta=b"m")
    assert store.get("k") == b"abcefgh"
    assert store.describe("k").meta == b"m"
    store.put_parts("none")
    assert store.get("none") == b""
    store.put_parts("many", *[b"%03d" % i for i in range(1000)])
    assert store.get("many") == b"".join(b"%03d" % i for i in range(1000))


def test_get_into_ranges_and_scatters(store):
    store.put("k", bytes(range(100)))
    out = bytearray(10)
    assert store.get_into("k", out, offset=90) == 10
    assert out == bytes(range(90, 100))
    assert store.get_into("k", out, offset=5, nbytes=3) == 3
    assert out[:3] == bytes([5, 6, 7])
    pieces = [bytearray(30), bytearray(0), memoryview(bytearray(50)), array.array("B", bytes(20))]
    assert store.get_into("k", pieces) == 100
    assert b"".join(bytes(piece) for piece in pieces) == bytes(range(100))
    assert store.get_into("k", bytearray(0), offset=100) == 0
    assert store.get_into("k", [], nbytes=0) == 0
    assert store.get_into("k", bytearray(200)) == 100


def test_names(store):
    for i in range(10):
        store.put(f"a/{i}", b"%d" % i)
    store.put("b", b"")
    assert sorted(store.keys()) == sorted([f"a/{i}" for i in range(10)] + ["b"])
    assert sorted(store.keys("a/")) == [f"a/{i}" for i in range(10)]
    assert store.keys("c") == []
    assert store.exists("a/1") is True
    assert store.exists("c") is False
    assert store.exists(["a/1", "c", "b"]) == [True, False, True]
    assert store.exists([]) == []
    assert store.exists(key for key in ("b",)) == [True]
    assert store.count_leading(["a/1", "a/2", "c", "a/3"]) == 2
    assert store.count_leading([]) == 0
    assert store.remove("b") is True
    assert store.remove("b", missing_ok=True) is False
    assert len(store) == 10
    assert store.clear() == 10
    assert len(store) == 0
    assert store.keys() == []


def test_many_keys_are_listed_once(store):
    names = {f"key/{i:05d}/{'x' * (i % 60)}" for i in range(5000)}
    for name in names:
        store.put(name, b"")
    listed = store.keys()
    assert len(listed) == len(names)
    assert set(listed) == names
    assert sorted(store.keys("key/000")) == sorted(name for name in names if name.startswith("key/000"))


def test_long_keys_are_listed(store):
    names = {chr(97 + i) * 4096 for i in range(26)}
    for name in names:
        store.put(name, b"")
    assert set(store.keys()) == names


def test_pins(store):
    store.put("k", b"1")
    store.pin("k")
    store.pin("k")
    assert store.describe("k").pinned
    assert store.stats().pinned_objects == 1
    store.put("k", b"2")
    assert store.describe("k").pinned
    store.unpin("k")
    store.unpin("k")
    assert not store.describe("k").pinned
    assert store.stats().pinned_bytes == 0


def test_eviction_takes_what_nobody_needs(open_store):
    store = open_store("4MiB", eviction="s3fifo")
    store.put("pinned", b"p" * 100_000)
    store.pin("pinned")
    view = store.get_buffer("pinned")
    for i in range(200):
        store.put(f"k{i}", bytes(100_000))
    stats = store.stats()
    assert stats.evictions > 100
    assert store.get("pinned") == b"p" * 100_000
    assert "k199" in store
    del view


def test_stats_count(store):
    store.put("k", bytes(1000))
    store.get("k")
    store.get("missing")
    view = store.get_buffer("k")
    stats = store.stats()
    assert (stats.objects, stats.puts, stats.misses) == (1, 1, 1)
    assert stats.gets >= 2
    assert stats.bytes_copied_in == 1000
    assert stats.bytes_copied_out == 1000
    assert (stats.borrowed_objects, stats.borrowed_bytes) == (1, 1000)
    assert stats.capacity >= 64 << 20
    assert stats.used + stats.free_warm + stats.free_cold == stats.capacity or stats.used > 0
    assert stats.hugepages is False
    with pytest.raises(AttributeError):
        stats.puts = 5
    del view


def test_borrows_lists_all(store):
    views = []
    for i in range(300):
        store.put(f"key{i}", b"x" * i)
        views.append(store.get_buffer(f"key{i}"))
    store.remove("key7")
    store.put("key8", b"new")
    listed = {one.key: one for one in store.borrows()}
    assert len(listed) == 300
    assert listed["key7"].unnamed
    assert listed["key8"].unnamed
    assert not listed["key9"].unnamed
    assert (listed["key9"].views, listed["key9"].nbytes) == (1, 9)
    del views
    assert store.borrows() == []


def test_trim_gives_memory_back(store):
    store.put("k", bytes(8 << 20))
    store.remove("k")
    assert store.trim() >= 8 << 20
    store.put("k", b"1")
    assert store.get("k") == b"1"


def test_close_logs_what_is_viewed(open_store, caplog):
    store = open_store()
    views = []
    for i in range(12):
        store.put(f"key{i:02d}", b"bytes")
        views.append(store.get_buffer(f"key{i:02d}"))
    with caplog.at_level(logging.WARNING, "moorage"):
        store.close()
        store.close()
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert " 12 " in message
    assert message.count("'key") == 10
    assert [bytes(view) for view in views] == [b"bytes"] * 12
    del views


def test_close_without_views_says_nothing(open_store, caplog):
    with caplog.at_level(logging.DEBUG, "moorage"):
        with open_store() as store:
            store.put("k", b"1")
        store.close(wait=True)
    assert caplog.records == []


def test_an_empty_store_is_true(store):
    assert len(store) == 0
    assert store
    assert "0 objects" in repr(store)


def test_a_store_goes_without_the_garbage_collector(open_store):
    gc.disable()
    try:
        store = moorage.Store("1MiB")
        store.put("k", b"1")
        store.get_buffer("k")
        reference = weakref.ref(store)
        del store
        assert reference() is None
    finally:
        gc.enable()


def test_methods_can_be_overridden():
    class Counting(moorage.Store):
        gets = 0

        def get(self, key, default=None):
            self.gets += 1
            return super().get(key, default)

    with Counting("1MiB") as store:
        store.put("k", b"1")
        assert store.get("k") == b"1"
        assert store.gets == 1


def test_two_stores_are_apart(open_store):
    a, b = open_store(), open_store()
    a.put("k", b"a")
    b.put("k", b"b")
    assert (a.get("k"), b.get("k")) == (b"a", b"b")
    a.close()
    assert b.get("k") == b"b"


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def test_safetensors_in_and_out(store, tmp_path):
    tensors = {
        "w": ("F32", [2, 3], bytes(range(24))),
        "b": ("BF16", [4], bytes(range(8))),
        "scalar": ("I64", [], bytes(8)),
        "nothing": ("U8", [0, 5], b""),
    }
    write_safetensors(tmp_path / "in.safetensors", tensors)
    seen = []
    assert store.import_safetensors(tmp_path / "in.safetensors", "m/", progress=lambda *step: seen.append(step)) == 4
    assert sorted(store.keys()) == sorted("m/" + name for name in tensors)
    assert (store.describe("m/w").dtype, store.describe("m/w").shape) == ("float32", (2, 3))
    assert (store.describe("m/b").dtype, store.describe("m/scalar").shape) == ("bfloat16", ())
    assert store.get("m/w") == bytes(range(24))
    assert all(done <= total for done, total in seen)
    store.export_safetensors(tmp_path / "out.safetensors", prefix="m/")
    other = moorage.Store("1MiB")
    assert other.import_safetensors(str(tmp_path / "out.safetensors")) == 4
    assert {name: other.get(name) for name in tensors} == {name: data for name, (_, _, data) in tensors.items()}
    other.close()


def test_safetensors_if_exists(store, tmp_path):
    write_safetensors(tmp_path / "f", {"a": ("U8", [1], b"1"), "b": ("U8", [1], b"2")})
    store.put("a", b"mine")
    with pytest.raises(moorage.ExistsError):
        store.import_safetensors(tmp_path / "f", if_exists="raise")
    assert store.keys() == ["a"]
    store.import_safetensors(tmp_path / "f", if_exists="keep")
    assert (store.get("a"), store.get("b")) == (b"mine", b"2")
    store.import_safetensors(tmp_path / "f")
    assert store.get("a") == b"1"


def test_an_exception_in_progress_stops_the_import(store, tmp_path):
    write_safetensors(tmp_path / "f", {f"t{i}": ("U8", [1 << 20], bytes(1 << 20)) for i in range(24)})

    class Enough(Exception):
        pass

    def progress(done, total):
        raise Enough

    with pytest.raises(Enough):
        store.import_safetensors(tmp_path / "f", progress=progress)
    assert store.keys() == []


def test_export_prefix_must_fit(store, tmp_path):
    store.put("a", b"1")
    with pytest.raises(moorage.InvalidArgumentError, match="prefix"):
        store.export_safetensors(tmp_path / "f", ["a"], prefix="b")
