"""torch tensors in and out: every layout, dtype and mode."""

from __future__ import annotations

import gc
import threading
import warnings

import pytest

import moorage

torch = pytest.importorskip("torch", reason="probed for torch: not installed")
torch.set_num_threads(1)

from moorage import torch as moorage_torch  # noqa: E402

DTYPES = sorted(moorage_torch.TRIPLES, key=str)


def raw(t):
    """The bytes of a tensor, in row-major order."""
    dense = t.detach().contiguous()
    if dense.numel() == 0:
        return b""
    flat = dense.view(-1) if dense.dim() else dense.view(1)
    return bytes(flat.view(torch.uint8).tolist())


def patterned(shape, dtype):
    """A tensor whose bytes are all different from their neighbours."""
    count = 1
    for n in shape:
        count *= n
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.arange(count * size, dtype=torch.int64).mul(37).add(11).remainder(251).to(torch.uint8)
    if dtype is torch.bool:
        data = data.remainder(2)
    return data.view(dtype).view(shape) if count else torch.empty(shape, dtype=dtype)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)


def test_the_dtypes_are_those_of_torch():
    names = {str(dtype).split(".")[1] for dtype in DTYPES}
    assert {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"} <= names
    assert {"complex64", "complex128", "float8_e4m3fn", "float8_e5m2"} <= names
    if hasattr(torch, "float4_e2m1fn_x2"):
        assert {"uint16", "uint32", "uint64", "complex32", "float8_e8m0fnu", "float4_e2m1fn_x2"} <= names


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("mode", ["view", "cow", "copy"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(store, dtype, mode):
    for shape in [(), (0,), (1,), (3, 5), (2, 0, 3), (7, 5, 3), (1000, 77)]:
        t = patterned(shape, dtype)
        assert store.put_tensor("k", t)
        assert same(store.get_tensor("k", mode=mode), t)
        assert same(store.get_tensors(["k"], mode=mode)[0], t)
        description = store.describe("k")
        assert (description.dtype, description.shape) == (str(dtype).split(".")[1], shape)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_strided(store, dtype):
    t = patterned((12, 10), dtype)
    for source in (t.t(), t[::2], t[:, 3:7], t[5], t[:, 2], t[3:].t()[::3], t.expand(3, 12, 10)):
        store.put_tensor("k", source)
        got = store.get_tensor("k", mode="view")
        assert got.is_contiguous()
        assert same(got, source.clone() if dtype.itemsize > 1 or dtype is torch.uint8 else source)


def layouts():
    base = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    yield "contiguous", base
    yield "transposed", base.transpose(1, 3)
    yield "channels last", base.contiguous(memory_format=torch.channels_last)
    yield "expanded", torch.arange(4.0).view(4, 1).expand(4, 5)
    yield "expanded scalar", torch.tensor(2.5).expand(3, 4)
    yield "offset", base.view(-1)[7:50]
    yield "every third", base.view(-1)[5::3]
    yield "permuted slice", base[:, 1:, ::2, 1:4].permute(3, 1, 0, 2)
    yield "unfolded", torch.arange(10.0).unfold(0, 4, 2)
    yield "as_strided", torch.arange(30.0).as_strided((3, 4), (2, 5), 1)
    yield "diagonal", torch.arange(16.0).view(4, 4).diagonal()
    yield "0-d", torch.tensor(1.5)
    yield "0-d of a slice", base[1, 2, 3, 4]
    yield "empty", torch.empty(0)
    yield "empty with sizes", torch.empty(3, 0, 5).transpose(0, 2)
    yield "many dimensions", torch.arange(4.0).view(*[1] * 60, 2, 2)
    yield "requires grad", torch.ones(3, 3, requires_grad=True)
    yield "in a graph", torch.ones(3, 3, requires_grad=True) * 2
    yield "Parameter", torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    yield "Buffer", torch.nn.Buffer(torch.arange(6.0)) if hasattr(torch.nn, "Buffer") else torch.arange(6.0)
    complex_base = torch.complex(torch.arange(6.0), -torch.arange(6.0)).view(2, 3)
    yield "conjugate", complex_base.conj()
    yield "conjugate transposed", complex_base.mH
    yield "negative", complex_base.conj().imag
    yield "imaginary part", complex_base.imag
    yield "real part", complex_base.real
    yield "zero tensor", torch._efficientzerotensor((2, 3))
    yield "large transposed", torch.arange(1_200_000, dtype=torch.int32).view(1000, 1200).t()


LAYOUTS = dict(layouts())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout(store, name):
    t = LAYOUTS[name]
    expected = t.detach().clone().resolve_conj().resolve_neg()
    assert store.put_tensor("k", t, meta=b"m")
    got = store.get_tensor("k")
    assert not got.requires_grad
    assert not got.is_conj()
    assert got.shape == t.shape
    assert torch.equal(got, expected)
    assert store.describe("k").meta == b"m"
    assert store.put_tensors({"a": t, "b": t}) == {"a": True, "b": True}
    assert torch.equal(store.get_tensor("b"), expected)


def test_more_dimensions_than_dlpack_consumers_have(store):
    t = torch.arange(2.0).view(*[1] * 63, 2)
    store.put_tensor("k", t)
    assert store.get_tensor("k").shape == t.shape
    with pytest.raises((moorage.InvalidArgumentError, moorage.UnsupportedError), match="dimensions|ndim|64"):
        store.put_tensor("k", t.view(*[1] * 64, 2))


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_stored_says_what_to_do(store):
    cases = {
        "to_dense": torch.eye(3).to_sparse(),
        "dense": torch.eye(3).to_sparse_csr(),
        "dequantize": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "unbind": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "meta device": torch.empty(3, device="meta"),
        "uint8": torch.empty(3, dtype=torch.bits8),
    }
    for words, t in cases.items():
        with pytest.raises(moorage.UnsupportedError, match=words) as caught:
            store.put_tensor("k", t)
        assert isinstance(caught.value, TypeError)
    assert len(store) == 0


def test_wrappers_are_refused(store):
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(3)
    with pytest.raises(moorage.UnsupportedError, match="wrapper"):
        store.put_tensor("k", fake)


def test_a_subclass_that_is_a_tensor_is_stored(store):
    class Mine(torch.Tensor):
        pass

    store.put_tensor("k", torch.arange(3.0).as_subclass(Mine))
    assert store.get_tensor("k").tolist() == [0, 1, 2]


def test_vmapped_tensors_are_refused(store):
    def inner(t):
        with pytest.raises(moorage.UnsupportedError, match="no memory"):
            store.put_tensor("k", t)
        return t

    torch.vmap(inner)(torch.ones(3, 2))
    assert len(store) == 0


def test_another_device_is_staged_by_torch(store, monkeypatch):
    """Without such a device: a tensor that says it is elsewhere, and is copied by torch."""
    small, large = torch.arange(6.0).view(2, 3), torch.arange(100_000.0).view(100, 1000).t()

    class Device:
        type = "elsewhere"

    class Elsewhere(torch.Tensor):
        @property
        def device(self):
            return Device()

        def data_ptr(self):
            raise AssertionError("nobody may look at memory of another device")

    monkeypatch.setattr(moorage_torch, "_refuse", lambda t: None)
    monkeypatch.setattr(moorage_torch, "plain", lambda t: t)  # which would see through this one
    monkeypatch.setattr(Elsewhere, "detach", lambda self: self)
    monkeypatch.setattr(moorage_torch, "PLAIN_TYPES", moorage_torch.PLAIN_TYPES)
    for t in (small, large):
        before = store.stats()
        there = t.as_subclass(Elsewhere)
        monkeypatch.setattr(Elsewhere, "cpu", lambda self: self.as_subclass(torch.Tensor))
        assert store.put_tensor("k", there, meta=b"m")
        assert torch.equal(store.get_tensor("k"), t)
        assert store.describe("k").meta == b"m"
        assert store.put_tensor("k", there, if_exists="keep") is False
        staged = t.numel() * 4 >= 64 << 10
        assert store.stats().adoptions - before.adoptions == staged
        assert (store.stats().bytes_copied_in > before.bytes_copied_in) != staged


def test_objects_of_bytes_come_as_uint8(store):
    store.put("k", b"abc")
    t = store.get_tensor("k")
    assert (t.dtype, t.tolist()) == (torch.uint8, [97, 98, 99])
    assert store.get_tensors(["k"])[0].tolist() == [97, 98, 99]


def test_modes(open_store):
    t = torch.arange(40_000.0)
    for default in ("view", "cow", "copy"):
        store = open_store(mode=default)
        store.put_tensor("k", t)
        for mode in (None, "view", "cow", "copy"):
            before = store.stats()
            got = store.get_tensor("k", mode=mode)
            stats = store.stats()
            assert torch.equal(got, t)
            effective = mode or default
            assert (stats.bytes_copied_out - before.bytes_copied_out) == (160_000 if effective == "copy" else 0)
            assert stats.windows - before.windows == (effective == "cow")
            if effective != "view":
                got.add_(1)
                assert torch.equal(store.get_tensor("k", mode="copy"), t)
            del got
        with pytest.raises(moorage.InvalidArgumentError, match="mode"):
            store.get_tensor("k", mode="x")
        with pytest.raises(moorage.InvalidArgumentError, match="mode"):
            store.get_tensors(["k"], mode="x")


def test_the_default_takes_every_in_place_operation(store):
    for count in (100, 100_000):  # a copy, and a window
        store.put_tensor("k", torch.ones(count))
        t = store.get_tensor("k")
        t.add_(1).mul_(2).div_(4).clamp_(0, 1).relu_()
        t[::2] = 5
        torch.nn.init.normal_(t)
        torch.nn.functional.dropout(t, 0.5, inplace=True)
        parameter = torch.nn.Parameter(store.get_tensor("k"))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        parameter.sum().backward()
        optimizer.step()
        assert parameter[0].item() == pytest.approx(0.9)
        assert torch.equal(store.get_tensor("k", mode="copy"), torch.ones(count))


def test_a_view_is_the_stores_memory(store):
    store.put_tensor("k", torch.arange(1000.0))
    a, b = store.get_tensor("k", mode="view"), store.get_tensor("k", mode="view")
    assert a.data_ptr() == b.data_ptr()
    assert store.stats().bytes_copied_out == 0
    assert a.data_ptr() % 64 == 0


def test_views_keep_their_bytes(store):
    for mode in ("view", "cow", "copy"):
        store.put_tensor("k", torch.arange(100_000))
        piece = store.get_tensor("k", mode=mode)[5:100:7].view(-1)[3:]
        store.put_tensor("k", torch.zeros(3))
        store.remove("k")
        for i in range(20):
            store.put_tensor(f"other{i}", torch.full((100_000,), i))
        gc.collect()
        assert piece.tolist() == list(range(26, 100, 7))
        store.clear()
    del piece
    assert store.borrows() == []


def test_views_outlive_the_store(open_store):
    store = open_store()
    store.put_tensor("k", torch.arange(100_000))
    views = [store.get_tensor("k", mode=mode) for mode in ("view", "cow", "copy")]
    store.close()
    for view in views:
        assert view.sum().item() == sum(range(100_000))


def test_get_tensors(store):
    for i in range(128):
        store.put_tensor(f"layer.{i}.weight", torch.full((3, 4), float(i)))
    keys = [f"layer.{i}.weight" for i in range(128)]
    for given in (keys, tuple(keys), iter(keys), dict.fromkeys(keys)):
        got = store.get_tensors(given, mode="view")
        assert type(got) is list
        assert [t[0, 0].item() for t in got] == list(range(128))
    assert store.get_tensors([]) == []
    with pytest.raises(moorage.NotFoundError, match="'missing'"):
        store.get_tensors(["layer.0.weight", "missing", "layer.1.weight"])
    got = store.get_tensors(["layer.0.weight", "missing", "layer.1.weight"], missing="none")
    assert [None if t is None else t[0, 0].item() for t in got] == [0, None, 1]
    with pytest.raises(moorage.InvalidArgumentError, match="missing"):
        store.get_tensors(keys, missing="ignore")
    for wrong, kind in ((["a", 1], TypeError), (["a", "\ud800"], ValueError), (["layer.0.weight", ""], ValueError)):
        with pytest.raises(kind):
            store.get_tensors(wrong, missing="none")


def test_a_batch_that_fails_lets_go_of_everything(store):
    store.put_tensor("k", torch.ones(3))
    for _ in range(100):
        with pytest.raises(KeyError):
            store.get_tensors(["k"] * 10 + ["missing"], mode="view")
    assert store.borrows() == []


def test_put_tensors(store):
    items = {"a": torch.ones(2), "b": torch.zeros(3), "c": torch.arange(4)}
    assert store.put_tensors(items) == {"a": True, "b": True, "c": True}
    assert store.put_tensors(items.items(), if_exists="keep") == {"a": False, "b": False, "c": False}
    with pytest.raises(moorage.UnsupportedError) as caught:
        store.put_tensors({"d": torch.ones(1), "e": torch.empty(1, device="meta"), "f": torch.ones(2)})
    assert caught.value.results["d"] is True
    assert caught.value.results["f"] is True
    assert caught.value.results["e"] is caught.value
    assert sorted(store.keys()) == ["a", "b", "c", "d", "f"]


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_and_adopt(store, dtype):
    t = store.empty((100, 77), dtype)
    assert (t.dtype, t.shape, t.is_contiguous()) == (dtype, (100, 77), True)
    expected = patterned((100, 77), dtype)
    t.view(torch.uint8).copy_(expected.view(torch.uint8))
    before = store.stats()
    assert store.adopt("k", t) is True
    stats = store.stats()
    assert stats.bytes_copied_in == before.bytes_copied_in
    assert (stats.adoptions - before.adoptions, stats.adopt_copies) == (1, 0)
    assert same(store.get_tensor("k", mode="view"), expected)
    assert store.get_tensor("k", mode="view").data_ptr() % 4096 == 0
    assert store.describe("k").adopted
    with pytest.raises(moorage.AlreadyAdoptedError):
        store.adopt("again", t)


def test_what_is_adopted_only_by_copy(store):
    t = store.empty((10, 10), torch.float32)
    t.copy_(torch.arange(100.0).view(10, 10))
    assert store.adopt("slice", t[2:4])
    assert store.adopt("transposed", t.t())
    assert store.stats().adopt_copies == 2
    assert store.stats().adoptions == 0
    t.zero_()  # still the producer's
    assert store.get_tensor("slice").tolist() == torch.arange(100.0).view(10, 10)[2:4].tolist()
    assert store.get_tensor("transposed")[0, 1].item() == 10


def test_adopt_keeps(store):
    store.put_tensor("k", torch.ones(1))
    t = store.empty(5, torch.float32)
    t.fill_(3)
    assert store.adopt("k", t, if_exists="keep") is False
    t.fill_(4)  # an open reservation as before
    with pytest.raises(moorage.ExistsError):
        store.adopt("k", t, if_exists="raise")
    assert store.adopt("k", t) is True
    assert store.get_tensor("k").tolist() == [4] * 5


def test_only_what_empty_made_is_adopted(store, open_store):
    for t in (torch.ones(5), open_store().empty(5, torch.float32).fill_(1)):
        assert store.adopt("k", t)
        t.zero_()  # still one's own
        assert store.get_tensor("k").tolist() == [1] * 5
    assert (store.stats().adoptions, store.stats().adopt_copies) == (0, 2)
    with pytest.raises(moorage.UnsupportedError, match="empty"):
        store.adopt("k", torch.ones(5, device="meta"))
    with pytest.raises(TypeError, match="empty"):
        store.adopt("k", b"bytes")


def test_empty_is_given_back(store):
    used = store.stats().used
    for _ in range(100):
        t = store.empty((1 << 20,), torch.uint8)
        t[0] = 1
    assert [one.reserved for one in store.borrows()] == [True]
    del t
    assert store.stats().used == used
    with pytest.raises(moorage.CapacityError):
        store.empty((1 << 40,), torch.uint8)
    with pytest.raises(moorage.InvalidArgumentError, match="shape"):
        store.empty((-1,), torch.uint8)
    with pytest.raises(moorage.UnsupportedError, match="dtype"):
        store.empty((1,), torch.qint8)
    assert store.empty((), torch.float32).shape == ()
    assert store.empty((0, 3), torch.float32).shape == (0, 3)
    assert store.empty(7, torch.float32).shape == (7,)


def test_pop(store):
    store.put_tensor("k", torch.arange(100_000))
    view = store.get_tensor("k", mode="view")
    with pytest.raises(moorage.BusyError):
        store.pop_tensor("k")
    address = view.data_ptr()
    assert "k" in store
    del view
    before = store.stats()
    t = store.pop_tensor("k")
    assert store.stats().bytes_copied_out == before.bytes_copied_out
    assert "k" not in store
    t.add_(1)
    assert t.sum().item() == sum(range(1, 100_001))
    assert address != 0
    with pytest.raises(moorage.NotFoundError):
        store.pop_tensor("k")
    used = store.stats().used
    del t
    assert store.stats().used < used
    store.put("bytes", b"abc")
    assert store.pop_tensor("bytes").tolist() == [97, 98, 99]


def test_popped_tensors_outlive_the_store(open_store):
    store = open_store()
    t = store.empty(100_000, torch.float32)
    t.fill_(2)
    store.adopt("k", t)
    del t
    popped = store.pop_tensor("k")
    store.close()
    popped.add_(1)
    assert popped.sum().item() == 300_000


def test_get_into_tensors(store):
    source = torch.arange(100, dtype=torch.float32)
    store.put_tensor("k", source)
    out = torch.zeros(100)
    assert store.get_into("k", out) == 400
    assert torch.equal(out, source)
    first, second = torch.zeros(30), torch.zeros(7, 10)
    assert store.get_into("k", [first, second]) == 400
    assert torch.equal(torch.cat([first, second.view(-1)]), source)
    assert store.get_into("k", out[10:20], offset=40, nbytes=40) == 40
    with pytest.raises(BufferError, match="contiguous"):
        store.get_into("k", torch.zeros(200)[::2])
    with pytest.raises(TypeError, match="CPU"):
        store.get_into("k", torch.zeros(100, device="meta"))
    with pytest.raises(moorage.TooSmallError):
        store.get_into("k", torch.zeros(99))
    with pytest.raises(moorage.ReadOnlyError):
        store.get_into("k", store.get_tensor("k", mode="view"))
    assert store.get_into("k", store.get_tensor("k", mode="cow")) == 400


def test_get_tensor_on_a_device(store):
    store.put_tensor("k", torch.arange(5.0))
    assert store.get_tensor("k", device="cpu").tolist() == [0, 1, 2, 3, 4]
    assert store.get_tensor("k", device=torch.device("cpu"), non_blocking=True).tolist() == [0, 1, 2, 3, 4]
    assert store.get_tensor("k", device="meta").device.type == "meta"
    assert store.borrows() == []


def test_the_recipe_of_the_mooncake_thread(store):
    """Metadata and payload in one object; the getters' buffer read in two pieces, with one argument more: mode."""
    payload = torch.arange(50_000, dtype=torch.float16)
    metadata = b"float16:50000".ljust(16)
    store.put_parts("k", metadata, payload.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = store.get_buffer("k", mode="cow")
        assert bytes(memoryview(buffer)[:16]).split(b":")[0] == b"float16"
        tensor = torch.frombuffer(buffer, dtype=torch.float16, offset=16)
    assert torch.equal(tensor, payload)
    tensor.zero_()
    del buffer
    assert tensor.sum().item() == 0
    assert store.get("k")[16:] == payload.numpy().tobytes()


def test_any_dlpack_producer(store):
    class Producer:
        def __init__(self, t):
            self.t = t

        def __dlpack__(self, **options):
            return self.t.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.t.__dlpack_device__()

    class OldProducer(Producer):
        def __dlpack__(self):
            return self.t.__dlpack__()

    class Elsewhere(Producer):
        def __dlpack_device__(self):
            return (2, 0)

    t = torch.arange(12.0).view(3, 4).t()
    for kind in (Producer, OldProducer):
        store.put_tensor("k", kind(t), meta=b"m")
        assert torch.equal(store.get_tensor("k"), t)
    with pytest.raises(moorage.UnsupportedError, match="CPU"):
        store.put_tensor("k", Elsewhere(t))


def test_a_torch_without_dlpack_1(store, monkeypatch):
    """What is done for a torch that knows neither versioned capsules nor the exchange table."""
    monkeypatch.setattr(moorage_torch, "HAS_DLPACK_1", False)
    old = moorage.Store("16MiB")
    for t in (torch.arange(12.0).view(3, 4), torch.arange(100_000), torch.tensor(True), torch.empty(0, 3)):
        old.put_tensor("k", t)
        for mode in ("view", "cow", "copy"):
            assert same(old.get_tensor("k", mode=mode), t)
            assert same(old.get_tensors(["k", "k"], mode=mode)[1], t)
        assert old.get_tensors(["missing"], missing="none") == [None]
        e = old.empty(tuple(t.shape), t.dtype)
        e.copy_(t)
        assert old.adopt("e", e)
        assert same(old.get_tensor("e"), t)
        del e
        assert same(old.pop_tensor("k"), t)
    with pytest.raises(moorage.NotFoundError, match="missing"):
        old.get_tensor("missing")
    old.close()


def test_a_dtype_that_torchs_dlpack_does_not_know(store, monkeypatch):
    """It goes through integers of the same width."""
    real = moorage_torch.from_dlpack
    capsules = store._plain.capsules

    def picky(capsule):
        if capsules.managed(capsule).dl_tensor.dtype.code > 6:
            raise RuntimeError("Unsupported code")
        return real(capsule)

    monkeypatch.setattr(moorage_torch, "from_dlpack", picky)
    fresh = moorage.Store("1MiB")
    t = torch.arange(8, dtype=torch.uint8).view(torch.float8_e4m3fn)
    fresh.put_tensor("k", t)
    for mode in ("view", "cow", "copy"):
        assert same(fresh.get_tensor("k", mode=mode), t)
        assert same(fresh.get_tensors(["k"], mode=mode)[0], t)
    fresh.close()


def test_a_dtype_that_torch_does_not_have(store):
    np = pytest.importorskip("numpy")
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="probed for ml_dtypes: not installed")
    store.put_tensor("k", np.arange(5).astype(ml_dtypes.float8_e3m4))
    for call in (store.get_tensor, lambda key: store.get_tensors([key]), store.pop_tensor):
        with pytest.raises(moorage.UnsupportedError, match="float8_e3m4"):
            call("k")
    assert "k" in store
    assert store.borrows() == []


def test_put_copies(store):
    t = torch.arange(1000.0)
    store.put_tensor("k", t)
    t.zero_()
    assert store.get_tensor("k").sum().item() == 499_500


def test_puts_leave_no_reference(store):
    import weakref

    makers = [
        lambda: torch.arange(10.0),
        lambda: torch.arange(100_000.0),
        lambda: torch.arange(10.0)[::2],
        lambda: torch.arange(10.0).cfloat().conj(),
    ]
    for make in makers:
        t = make()
        reference = weakref.ref(t)
        store.put_tensor("k", t)
        del t
        assert reference() is None


def test_threads(store):
    """Several threads put and get a few keys; every tensor that comes out is whole."""
    wrong = []
    stop = threading.Event()

    def work(seed):
        try:
            for i in range(400):
                value = seed * 1000 + i
                key = f"k{(seed + i) % 3}"
                store.put_tensor(key, torch.full((2000,), value))
                t = store.get_tensor(f"k{i % 3}", mode=("view", "cow", "copy")[i % 3]) if i % 3 in done else None
                done.add((seed + i) % 3)
                if t is not None and t.unique().numel() != 1:
                    wrong.append((seed, i))
        except BaseException as error:
            wrong.append(error)
        finally:
            stop.set()

    done: set[int] = set()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_optimizer_over_adopted_weights(store):
    module = torch.nn.Linear(300, 300)
    for name, parameter in module.state_dict().items():
        store.put_tensor(name, parameter)
    module.load_state_dict({name: store.get_tensor(name) for name in module.state_dict()}, assign=True)
    before = store.get_tensor("weight", mode="copy")
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 300)).sum().backward()
    optimizer.step()
    assert not torch.equal(module.weight, before)
    assert torch.equal(store.get_tensor("weight", mode="view"), before)
