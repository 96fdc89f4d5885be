"""get_buffer: the buffer protocol, and who owns the bytes."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

import moorage

DATA = bytes(range(256)) * 512  # 128 KiB: large enough for a window


@pytest.fixture
def filled(store):
    store.put("k", DATA, meta=b"meta")
    return store


def test_what_it_says(filled):
    b = filled.get_buffer("k")
    assert isinstance(b, moorage.Buffer)
    assert (len(b), b.nbytes, b.dtype, b.shape, b.meta) == (len(DATA), len(DATA), None, (len(DATA),), b"meta")
    assert b.seq == filled.describe("k").seq
    assert "plain bytes" in repr(b)
    m = memoryview(b)
    assert (m.format, m.ndim, m.shape, m.itemsize) == ("B", 1, (len(DATA),), 1)
    assert m == DATA
    assert bytes(b) == DATA


def test_view_is_read_only_and_the_others_are_not(filled):
    view = filled.get_buffer("k")
    assert view.readonly
    assert memoryview(view).readonly
    with pytest.raises(TypeError):
        memoryview(view)[0] = 1
    for mode in ("cow", "copy"):
        b = filled.get_buffer("k", mode=mode)
        assert not b.readonly
        memoryview(b)[:4] = b"mine"
        assert bytes(memoryview(b)[:4]) == b"mine"
        assert memoryview(view) == DATA
        assert filled.get("k") == DATA


def test_a_view_is_the_stores_own_memory(filled):
    before = filled.stats().bytes_copied_out
    views = [filled.get_buffer("k") for _ in range(10)]
    assert filled.stats().bytes_copied_out == before
    assert filled.describe("k").views == 10
    del views


def test_slices_keep_the_bytes(filled):
    piece = memoryview(filled.get_buffer("k"))[1000:1010]
    filled.put("k", b"another")
    gc.collect()
    assert piece == DATA[1000:1010]
    assert [one.key for one in filled.borrows()] == ["k"]
    assert filled.borrows()[0].unnamed
    del piece
    assert filled.borrows() == []


def test_bytes_outlive_remove_and_close(filled):
    b = filled.get_buffer("k")
    piece = memoryview(b)[:16]
    filled.remove("k")
    filled.close()
    assert piece == DATA[:16]
    assert bytes(b) == DATA


def test_release(filled):
    b = filled.get_buffer("k")
    m = memoryview(b)
    with pytest.raises(BufferError, match="still exist"):
        b.release()
    m.release()
    b.release()
    b.release()
    assert filled.borrows() == []
    assert repr(b) == "<moorage.Buffer, released>"
    for use in (memoryview, bytes, len, lambda b: b.dtype, lambda b: b.meta):
        with pytest.raises(ValueError, match="released"):
            use(b)


def test_with(filled):
    with filled.get_buffer("k") as b:
        assert bytes(memoryview(b)[:2]) == DATA[:2]
        assert filled.describe("k").views == 1
    assert filled.describe("k").views == 0
    with pytest.raises(BufferError), filled.get_buffer("k") as b:
        m = memoryview(b)
    m.release()


def test_empty_object(store):
    store.put("k", b"")
    with store.get_buffer("k") as b:
        assert (len(b), bytes(b), b.shape) == (0, b"", (0,))
        assert memoryview(b).nbytes == 0
    for mode in ("cow", "copy"):
        assert bytes(store.get_buffer("k", mode=mode)) == b""


def test_it_is_made_by_a_store_only():
    with pytest.raises(TypeError, match="get_buffer"):
        moorage.Buffer()


def test_what_takes_buffers_takes_it(filled, tmp_path):
    import hashlib
    import zlib

    b = filled.get_buffer("k")
    assert hashlib.sha256(b).digest() == hashlib.sha256(DATA).digest()
    assert zlib.crc32(b) == zlib.crc32(DATA)
    assert b"".join([b, b"x"]) == DATA + b"x"
    (tmp_path / "f").write_bytes(b)
    assert (tmp_path / "f").read_bytes() == DATA
    assert bytearray(b) == DATA
    filled.put("again", b)
    assert filled.get("again") == DATA
    with (tmp_path / "f").open("rb") as f:
        target = filled.get_buffer("k", mode="copy")
        assert f.readinto(target) == len(DATA)


def test_writable_requests_on_a_view_are_refused(filled, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 10)
    with (tmp_path / "f").open("rb", buffering=0) as f, pytest.raises((TypeError, BufferError)):
        f.readinto(filled.get_buffer("k"))
    assert filled.get("k") == DATA
    assert filled.borrows() == []


def test_get_into_does_not_write_into_views(filled):
    filled.put("other", b"\0" * len(DATA))
    with pytest.raises(moorage.ReadOnlyError):
        filled.get_into("other", filled.get_buffer("k"))
    assert filled.get("k") == DATA


def test_reference_counts_are_right(filled):
    b = filled.get_buffer("k")
    kind = type(b)
    gc.collect()
    before = sys.getrefcount(kind)
    for _ in range(1000):
        with filled.get_buffer("k") as one:
            memoryview(one).release()
    for _ in range(100):
        filled.get_buffer("k")
    assert abs(sys.getrefcount(kind) - before) < 10
    m = memoryview(b)
    before = sys.getrefcount(b)
    with pytest.raises((TypeError, BufferError)):
        memoryview(b).cast("B")[0] = 1
    assert sys.getrefcount(b) == before
    del m


def test_threads_race_to_release(filled):
    for _ in range(50):
        b = filled.get_buffer("k")
        barrier = threading.Barrier(4)
        wrong: list[BaseException] = []

        def use(b=b, barrier=barrier, wrong=wrong):
            barrier.wait()
            try:
                with memoryview(b) as m:
                    if m[:4] != DATA[:4]:
                        wrong.append(AssertionError("foreign bytes"))
                b.release()
            except (ValueError, BufferError):
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        b.release()
    assert filled.borrows() == []


def test_many_open_and_close(filled):
    for _ in range(2000):
        bytes(memoryview(filled.get_buffer("k", mode="cow"))[:1])
    assert filled.stats().windows == 0
    assert filled.borrows() == []
