"""Each exception, seen where it comes from, with a text that helps."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import pytest

import moorage


def test_not_found_is_a_key_error_and_names_the_key(store):
    calls = [
        store.get_buffer,
        store.describe,
        store.remove,
        store.pin,
        store.unpin,
        lambda key: store.get_into(key, bytearray(4)),
    ]
    for call in calls:
        with pytest.raises(moorage.NotFoundError, match="no object under key 'nö key'") as caught:
            call("nö key")
        assert isinstance(caught.value, KeyError)
        assert str(caught.value) == "no object under key 'nö key'"


def test_exists(store):
    store.put("k", b"1")
    with pytest.raises(moorage.ExistsError) as caught:
        store.put("k", b"2", if_exists="raise")
    assert isinstance(caught.value, FileExistsError)
    assert store.get("k") == b"1"


def test_capacity_says_how_much_there_is(open_store):
    store = open_store("1MiB")
    with pytest.raises(moorage.CapacityError) as caught:
        store.put("k", bytes(2 << 20))
    assert isinstance(caught.value, MemoryError)
    assert any(character.isdigit() for character in str(caught.value))
    assert len(store) == 0


def test_closed(store):
    store.put("k", b"1")
    store.close()
    store.close()
    calls = [
        lambda: store.put("k", b"1"),
        lambda: store.put("k", memoryview(b"1234")[::2]),
        lambda: store.put_parts("k", b"1"),
        lambda: store.get("k"),
        lambda: store.get_buffer("k"),
        lambda: store.get_into("k", bytearray(1)),
        lambda: "k" in store,
        lambda: store.exists(["k"]),
        lambda: store.count_leading(["k"]),
        lambda: store.keys(),
        lambda: store.remove("k"),
        lambda: store.remove("k", missing_ok=True),
        lambda: store.clear(),
        lambda: store.pin("k"),
        lambda: store.describe("k"),
        lambda: store.stats(),
        lambda: store.borrows(),
        lambda: store.trim(),
        lambda: len(store),
        lambda: store.import_safetensors("/nowhere"),
        lambda: store.export_safetensors("/nowhere/file", []),
    ]
    for call in calls:
        with pytest.raises(moorage.ClosedError, match="closed"):
            call()
    assert issubclass(moorage.ClosedError, moorage.BadHandleError)
    assert repr(store) == "<moorage.Store, closed>"
    assert store


def test_key_of_a_wrong_type(store):
    store.put("k", b"1")
    for call in (store.put, store.put_parts):
        with pytest.raises(TypeError, match="key must be a str, not bytes"):
            call(b"k", b"1")
    for call in (store.get, store.get_buffer, store.remove, store.describe, store.pin):
        with pytest.raises(TypeError, match="key must be a str, not int"):
            call(1)
    with pytest.raises(TypeError, match="key must be a str, not NoneType"):
        None in store  # noqa: B015
    with pytest.raises(TypeError, match="key must be a str, not int"):
        store.exists(["k", 1])


@pytest.mark.parametrize("key", ["\ud800", "a\udfffb"])
def test_key_with_a_surrogate_is_named(store, key):
    for call in (store.get, store.get_buffer, store.remove, store.describe, lambda k: store.put(k, b"1")):
        with pytest.raises(moorage.InvalidArgumentError, match="key .*surrogate"):
            call(key)


@pytest.mark.parametrize("key", ["", "x" * 4097, "ä" * 2049], ids=["empty", "4097 ASCII", "4098 in UTF-8"])
def test_key_of_a_wrong_length(store, key):
    for call in (store.get, store.get_buffer, store.remove, store.describe, lambda k: store.put(k, b"1")):
        with pytest.raises(moorage.InvalidArgumentError, match="key"):
            call(key)
    assert issubclass(moorage.InvalidArgumentError, ValueError)


@pytest.mark.parametrize("key", ["x", "x" * 4096, "ä" * 2048, "\0", "a\0b", "a\nb", "\U0001f6a2"])
def test_key_of_any_text(store, key):
    assert store.put(key, b"1")
    assert store.get(key) == b"1"
    assert store.keys() == [key]
    assert key in store


def test_choices_are_named(store):
    store.put("k", b"1")
    with pytest.raises(moorage.InvalidArgumentError, match="if_exists must be one of 'replace', 'keep', 'raise'"):
        store.put("k", b"1", if_exists="maybe")
    with pytest.raises(moorage.InvalidArgumentError, match="mode must be one of 'view', 'cow', 'copy'"):
        store.get_buffer("k", mode="x")
    with pytest.raises(moorage.InvalidArgumentError, match="mode must be one of"):
        store.get_buffer("k", mode=None)
    for name in ("mode", "eviction", "hugepages", "prefault"):
        with pytest.raises(moorage.InvalidArgumentError, match=f"{name} must be one of"):
            moorage.Store("1MiB", **{name: "x"})
    # A mode that is equal but not the same object.
    assert bytes(store.get_buffer("k", mode="".join(["vi", "ew"]))) == b"1"


def test_capacity_is_parsed():
    from moorage._parse import size

    assert size(None, "capacity") == 0
    assert size(4096, "capacity") == size("4096", "capacity") == size("4KiB", "capacity") == size("4k", "capacity")
    assert size("1.5GiB", "capacity") == 3 << 29
    assert size("2 MB", "capacity") == 2_000_000
    assert size("3T", "capacity") == 3 << 40
    for wrong in ("", "GiB", "4XB", "-1", "1e9", 0, -1, "0", 2**63):
        with pytest.raises(moorage.InvalidArgumentError, match="capacity"):
            size(wrong, "capacity")
    for wrong in (1.5, True, [], b"4"):
        with pytest.raises(TypeError, match="capacity"):
            size(wrong, "capacity")


def test_a_store_that_could_not_be_opened_leaves_nothing():
    with pytest.raises((moorage.InvalidArgumentError, moorage.NoMemoryError, moorage.SystemFailureError)):
        moorage.Store(2**62)


def test_data_without_a_buffer(store):
    with pytest.raises(TypeError, match="encode"):
        store.put("k", "text")
    with pytest.raises(TypeError, match="buffer protocol"):
        store.put("k", 5)
    with pytest.raises(TypeError, match="buffer protocol"):
        store.put_parts("k", b"1", 5)
    with pytest.raises(TypeError, match="put takes bytes"):
        store.put_tensor("k", [1, 2])
    assert len(store) == 0


def test_meta(store):
    store.put("k", b"1", meta=bytearray(b"meta"))
    assert store.describe("k").meta == b"meta"
    store.put("k", b"1", meta=b"m" * 4096)
    assert store.get_buffer("k").meta == b"m" * 4096
    with pytest.raises(moorage.InvalidArgumentError, match="meta"):
        store.put("k", b"1", meta=b"m" * 4097)
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError, match="meta must be bytes"):
            store.put("k", b"1", meta=wrong)
        with pytest.raises(TypeError, match="meta must be bytes"):
            store.put_parts("k", b"1", meta=wrong)


def test_get_into_refuses(store):
    store.put("k", b"0123456789")
    small = bytearray(4)
    with pytest.raises(moorage.TooSmallError):
        store.get_into("k", small)
    assert small == bytes(4)
    with pytest.raises(moorage.ReadOnlyError, match="out is read-only"):
        store.get_into("k", bytes(10))
    with pytest.raises(moorage.ReadOnlyError, match="each of out is read-only"):
        store.get_into("k", [bytearray(5), bytes(5)])
    with pytest.raises(BufferError, match="out must be contiguous"):
        store.get_into("k", memoryview(bytearray(20))[::2])
    with pytest.raises(TypeError, match="out must be a writable buffer"):
        store.get_into("k", 5)
    with pytest.raises(moorage.InvalidArgumentError):
        store.get_into("k", bytearray(20), offset=11)
    with pytest.raises(moorage.InvalidArgumentError):
        store.get_into("k", bytearray(20), offset=5, nbytes=6)
    for wrong in (-1, 2**63):
        with pytest.raises(moorage.InvalidArgumentError, match="offset"):
            store.get_into("k", bytearray(20), offset=wrong)
        with pytest.raises(moorage.InvalidArgumentError, match="nbytes"):
            store.get_into("k", bytearray(20), nbytes=wrong)
    with pytest.raises(TypeError, match="offset must be an int"):
        store.get_into("k", bytearray(20), offset="1")


def test_several_keys_are_not_one(store):
    for call in (store.count_leading, store.get_tensors, lambda keys: store.export_safetensors("/nowhere", keys)):
        with pytest.raises(TypeError, match="keys must be several keys"):
            call("abc")


def test_brackets_name_the_getters(store):
    store.put("k", b"1")
    with pytest.raises(TypeError, match=r"get_tensor.*get_array.*get_buffer"):
        store["k"]
    with pytest.raises(TypeError):
        iter(store)
    with pytest.raises(TypeError):
        list(store)


def test_pickle_and_copy_say_what_to_do(store):
    store.put("k", b"1")
    buffer = store.get_buffer("k")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"store\.snapshot\(\).*open a store there"):
            attempt(store)
        with pytest.raises(TypeError, match="bytes"):
            attempt(buffer)


def test_forked_error_names_the_remedy(store):
    store.put("k", b"1")
    view = store.get_buffer("k")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        try:
            lines = [bytes(view).decode()]
            for call in (lambda: store.get("k"), lambda: store.put("k", b"2"), lambda: len(store), moorage.Store):
                try:
                    call()
                    lines.append("no error")
                except moorage.ForkedError as error:
                    lines.append(str(error))
            store.close()  # not ours: does nothing, and does not raise
            os.write(write, "\n".join(lines).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    assert lines[0] == "1"
    assert len(lines) == 5
    for line in lines[1:]:
        assert "spawn" in line
        assert "forkserver" in line
    assert store.get("k") == b"1"


def test_files(store, tmp_path):
    with pytest.raises(moorage.IOFailedError) as caught:
        store.import_safetensors(tmp_path / "missing.safetensors")
    assert isinstance(caught.value, OSError)
    (tmp_path / "hostile.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(moorage.FormatError):
        store.import_safetensors(tmp_path / "hostile.safetensors")
    with pytest.raises(moorage.InvalidArgumentError, match="zero byte"):
        store.import_safetensors("a\0b")
    with pytest.raises(moorage.NotFoundError, match="missing"):
        store.export_safetensors(tmp_path / "out.safetensors", ["missing"])
    assert not (tmp_path / "out.safetensors").exists()


def test_errors_do_not_mix_between_threads(store):
    import threading

    wrong: list[str] = []

    def ask(key: str) -> None:
        for _ in range(300):
            try:
                store.describe(key * 5000)
            except moorage.InvalidArgumentError as error:
                if "key" not in str(error):
                    wrong.append(str(error))
            try:
                store.put(key, b"1", meta=b"m" * 5000)
            except moorage.InvalidArgumentError as error:
                if "meta" not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=ask, args=(chr(97 + i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "ending",
    ["", "store.close()", "del store", "view = None", "import os; os._exit(0)", "raise SystemExit(0)", "sys.exit(0)"],
)
def test_the_interpreter_may_end_in_any_order(ending):
    code = f"""
import sys, moorage
store = moorage.Store("1MiB")
store.put("k", b"bytes")
view = store.get_buffer("k")
memory = memoryview(view)
{ending}
"""
    result = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
