"""numpy arrays in and out."""

from __future__ import annotations

import gc

import pytest

import moorage

np = pytest.importorskip("numpy", reason="probed for numpy: not installed")

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip
ML_DTYPES = [
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip


def patterned(shape, dtype):
    count = int(np.prod(shape))
    size = np.dtype(dtype).itemsize
    data = (np.arange(count * size) * 37 % 251).astype("u1")
    if np.dtype(dtype) == np.dtype(bool):
        data %= 2
    return data.view(dtype).reshape(shape)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("mode", ["view", "cow", "copy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(store, dtype, mode):
    for shape in [(), (0,), (1,), (3, 5), (2, 0, 3), (7, 5, 3), (1000, 77)]:
        a = patterned(shape, dtype)
        assert store.put_tensor("k", a, meta=b"m")
        got = store.get_array("k", mode=mode)
        assert type(got) is np.ndarray
        assert same(got, a)
        assert got.flags.writeable == (mode != "view")
        assert got.flags.c_contiguous
        description = store.describe("k")
        assert (description.dtype, description.shape, description.meta) == (dtype, shape, b"m")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_strided(store, dtype):
    a = patterned((12, 10), dtype)
    sources = [a.T, a[::2], a[::-1], a[::-1, ::-2], a[:, 3:7], a[5], a[:, 2], a[3:].T[::-3]]
    sources += [np.broadcast_to(a[0], (4, 10)), np.asfortranarray(a), a[3, 4], a[..., None]]
    for source in sources:
        store.put_tensor("k", source)
        assert same(store.get_array("k"), np.ascontiguousarray(source).reshape(source.shape))


@pytest.mark.parametrize("dtype", ML_DTYPES)
def test_dtypes_of_ml_dtypes(store, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="probed for ml_dtypes: not installed")
    if not hasattr(ml_dtypes, dtype):
        pytest.skip(f"probed for ml_dtypes.{dtype}: not there")
    for source in (patterned((7, 6), getattr(ml_dtypes, dtype)), patterned((), getattr(ml_dtypes, dtype))):
        for a in (source, source.T, source[::-1] if source.ndim else source):
            store.put_tensor("k", a)
            assert store.describe("k").dtype == dtype
            for mode in ("view", "cow", "copy"):
                got = store.get_array("k", mode=mode)
                assert same(got, np.ascontiguousarray(a).reshape(a.shape))
                assert got.flags.writeable == (mode != "view")
                del got
    e = store.empty((3, 4), getattr(ml_dtypes, dtype))
    assert (e.dtype, e.shape, e.flags.writeable) == (np.dtype(getattr(ml_dtypes, dtype)), (3, 4), True)
    e[:] = 1
    assert store.adopt("e", e)
    assert same(store.get_array("e"), np.ones((3, 4), getattr(ml_dtypes, dtype)))
    del e
    assert store.stats().adoptions == 1


@pytest.mark.parametrize("dtype", ["i2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_foreign_byte_order_is_converted(store, dtype):
    foreign = np.arange(12).reshape(3, 4).astype(">" + dtype if np.little_endian else "<" + dtype)
    assert not foreign.dtype.isnative
    for a in (foreign, foreign.T, foreign[::-1]):
        store.put_tensor("k", a)
        got = store.get_array("k")
        assert got.dtype.isnative
        assert np.array_equal(got, a)
    with pytest.raises(moorage.UnsupportedError, match="byte order"):
        store.empty(3, foreign.dtype)


def test_what_cannot_be_stored_says_what_to_do(store):
    cases = {
        "pickle": np.array([object()]),
        "string": np.array([b"a"]),
        "encode": np.array(["a"]),
        "structured": np.zeros(3, [("a", "i4"), ("b", "f4")]),
        "void": np.zeros(3, "V7"),
        "datetime": np.zeros(3, "M8[s]"),
        "timedelta": np.zeros(3, "m8[s]"),
        "float64": np.zeros(3, np.longdouble),
        "filled": np.ma.masked_array([1, 2, 3], [0, 1, 0]),
    }
    for words, a in cases.items():
        with pytest.raises(moorage.UnsupportedError, match=words) as caught:
            store.put_tensor("k", a)
        assert isinstance(caught.value, TypeError)
    assert len(store) == 0
    assert store.borrows() == []


def test_ml_dtypes_that_pad_are_refused(store):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="probed for ml_dtypes: not installed")
    for name in ("int4", "uint4", "float4_e2m1fn", "float6_e2m3fn"):
        if hasattr(ml_dtypes, name):
            with pytest.raises(moorage.UnsupportedError, match="view it as uint8"):
                store.put_tensor("k", np.zeros(3, getattr(ml_dtypes, name)))


def test_odd_arrays(store):
    structured = np.zeros(6, [("a", "i4"), ("b", "f8")])
    structured["b"] = np.arange(6)
    read_only = np.arange(5)
    read_only.flags.writeable = False
    unaligned = np.frombuffer(bytes(range(33)), "u1")[1:].view("f8")
    for a in (structured["b"], structured["a"], read_only, unaligned, np.float32(2.5), np.bool_(True)):
        store.put_tensor("k", a)
        got = store.get_array("k")
        assert same(got, np.ascontiguousarray(a).reshape(np.shape(a)))


def test_a_scalar_comes_back_as_one(store):
    store.put_tensor("k", np.array(7))
    got = store.get_array("k")
    assert got.shape == ()
    assert got.item() == 7
    assert got.dtype == np.dtype("int64")


def test_put_takes_arrays_by_bytes(store):
    for a in (np.arange(12.0).reshape(3, 4), np.arange(12)[::-2], np.zeros((2, 0)), np.arange(8, dtype="u1").T):
        store.put("k", a)
        assert store.get("k") == a.tobytes()
        assert store.describe("k").dtype is None
    assert store.get_array("k").tolist() == list(range(8))


def test_views_refuse_writes(store):
    store.put_tensor("k", np.arange(100_000))
    a = store.get_array("k")
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        a += 1
    with pytest.raises(ValueError):
        a.flags.writeable = True
    with pytest.raises(ValueError):
        a[5:].flags.writeable = True
    assert a[0] == 0


def test_cow_is_ones_own(store):
    for count in (100, 100_000):
        store.put_tensor("k", np.zeros(count))
        a = store.get_array("k", mode="cow")
        a += 1
        assert store.get_array("k").sum() == 0
        assert a.sum() == count


def test_views_keep_their_bytes(open_store):
    store = open_store()
    store.put_tensor("k", np.arange(1000))
    piece = store.get_array("k")[10:20][::3]
    store.put_tensor("k", np.zeros(1000))
    store.remove("k")
    for i in range(50):
        store.put_tensor(f"other{i}", np.full(1000, i))
    gc.collect()
    assert piece.tolist() == [10, 13, 16, 19]
    assert [one.unnamed for one in store.borrows()] == [True]
    store.close()
    assert piece.tolist() == [10, 13, 16, 19]


def test_a_view_copies_nothing(store):
    store.put_tensor("k", np.arange(100_000))
    arrays = [store.get_array("k") for _ in range(5)]
    assert store.stats().bytes_copied_out == 0
    assert len({a.ctypes.data for a in arrays}) == 1
    assert arrays[0].ctypes.data % 4096 == 0


def test_get_array_never_goes_through_torch():
    import subprocess
    import sys

    code = """
import sys, numpy as np, moorage
store = moorage.Store("1MiB")
store.put_tensor("k", np.arange(3))
assert store.get_array("k").tolist() == [0, 1, 2]
assert "torch" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_empty_and_adopt(store):
    for dtype in DTYPES:
        a = store.empty((100, 77), dtype)
        assert (a.dtype, a.shape, a.flags.writeable, a.flags.c_contiguous) == (np.dtype(dtype), (100, 77), True, True)
        expected = patterned((100, 77), dtype)
        a[:] = expected
        assert store.adopt(dtype, a) is True
        assert same(store.get_array(dtype), expected)
        with pytest.raises(moorage.AlreadyAdoptedError):
            store.adopt(dtype, a)
    stats = store.stats()
    assert (stats.adoptions, stats.adopt_copies, stats.bytes_copied_in) == (len(DTYPES), 0, 0)
    a = store.empty(10, float)
    a[:] = range(10)
    assert store.adopt("slice", a[2:4])
    assert store.adopt("reversed", a[::-1])
    assert store.stats().adopt_copies == 2
    assert store.get_array("reversed").tolist() == list(range(9, -1, -1))
    assert store.adopt("elsewhere", np.arange(3))  # copied
    assert store.stats().adopt_copies == 3
    with pytest.raises(moorage.UnsupportedError):
        store.empty(3, "O")
    assert store.empty((), "f4").shape == ()
    assert store.empty((0, 2), "f4").shape == (0, 2)


def test_get_into_arrays(store):
    source = np.arange(100, dtype="f4")
    store.put_tensor("k", source)
    out = np.zeros((10, 10), "f4")
    assert store.get_into("k", out) == 400
    assert np.array_equal(out.ravel(), source)
    assert store.get_into("k", [out[:5], out[5:]]) == 400
    with pytest.raises(BufferError, match="contiguous"):
        store.get_into("k", np.zeros((10, 20), "f4")[:, ::2])
    with pytest.raises(BufferError, match="contiguous"):
        store.get_into("k", np.asfortranarray(out))
    with pytest.raises(moorage.ReadOnlyError):
        store.get_into("k", store.get_array("k"))
    frozen = np.zeros(100, "f4")
    frozen.flags.writeable = False
    with pytest.raises(moorage.ReadOnlyError):
        store.get_into("k", frozen)
    assert frozen.sum() == 0


def test_buffers_and_arrays(store):
    store.put_tensor("k", np.arange(12, dtype="i2").reshape(3, 4))
    b = store.get_buffer("k")
    assert (b.dtype, b.shape, b.nbytes) == ("int16", (3, 4), 24)
    a = np.frombuffer(b, "i2")
    assert a.tolist() == list(range(12))
    assert not a.flags.writeable
    with pytest.raises(BufferError):
        b.release()
    del a
    b.release()


def test_any_dlpack_producer(store):
    class Producer:
        def __dlpack__(self, **options):
            return np.arange(6).reshape(2, 3).T.__dlpack__(**options)

        def __dlpack_device__(self):
            return (1, 0)

    store.put_tensor("k", Producer())
    assert store.get_array("k").tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_numpy_before_2_1(monkeypatch):
    """Arrays then come by way of buffers."""
    from moorage import numpy as moorage_numpy

    monkeypatch.setattr(moorage_numpy, "HAS_DLPACK_1", False)
    store = moorage.Store("16MiB")
    for a in (np.arange(12.0).reshape(3, 4), np.array(True), np.zeros((0, 3), "f4"), np.arange(100_000)):
        store.put_tensor("k", a)
        for mode in ("view", "cow", "copy"):
            got = store.get_array("k", mode=mode)
            assert same(got, a)
            assert got.flags.writeable == (mode != "view" or a.size == 0) or a.size == 0
            del got
        e = store.empty(a.shape, a.dtype)
        e[...] = a
        assert store.adopt("e", e)
        del e
        assert same(store.get_array("e"), a)
    with pytest.raises(KeyError):
        store.get_array("missing")
    store.close()


def test_numpys_dlpack_refusals_lose_nothing(store):
    """A dtype that numpy's DLPack does not know: the view is not lost on the way to the other road."""
    pytest.importorskip("ml_dtypes", reason="probed for ml_dtypes: not installed")
    import ml_dtypes

    store.put_tensor("k", np.zeros(100, ml_dtypes.bfloat16))
    for _ in range(100):
        store.get_array("k")
    assert store.borrows() == []


def test_an_unknown_mode(store):
    store.put_tensor("k", np.zeros(1))
    for mode in ("x", None, 0):
        with pytest.raises(moorage.InvalidArgumentError, match="mode must be one of"):
            store.get_array("k", mode=mode)
    with pytest.raises(moorage.NotFoundError, match="'missing'"):
        store.get_array("missing")


def test_a_float4_tensor_has_no_array(store):
    torch = pytest.importorskip("torch", reason="probed for torch: not installed")
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("probed for torch.float4_e2m1fn_x2: not there")
    store.put_tensor("k", torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
    with pytest.raises(moorage.UnsupportedError, match="get_buffer"):
        store.get_array("k")
    assert store.borrows() == []
