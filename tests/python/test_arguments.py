"""Arguments as strange as people have them: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import moorage


class Producer:
    """Anything with `__dlpack__`."""

    def __init__(self, capsule, device=(1, 0)):
        self.capsule = capsule
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **_):
        if isinstance(self.capsule, Exception):
            raise self.capsule
        return self.capsule


class TestAdopt:
    def test_numpy_is_told(self, store):
        whole = store.empty((4, 5), np.float32)
        whole[:] = 1
        flat = whole.reshape(-1)
        assert store.adopt("k", flat)
        for array in (whole, flat):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 2
        assert store.get_array("k").tolist() == [1.0] * 20

    def test_what_was_copied_stays_writable(self, store):
        whole = store.empty(6, np.int32)
        whole[:] = 1
        assert store.adopt("slice", whole[:3])
        foreign = np.ones(3)
        assert store.adopt("foreign", foreign)
        whole[:] = 2
        foreign[:] = 2
        assert store.get_array("slice").tolist() == [1, 1, 1]
        assert store.get_array("foreign").tolist() == [1, 1, 1]

    def test_kept(self, store):
        store.put("k", b"old")
        array = store.empty(3, np.uint8)
        assert store.adopt("k", array, if_exists="keep") is False
        array[:] = 1


class TestInto:
    def test_memory_of_python_objects(self, store):
        store.put("k", bytes(8))
        objects = np.array([1, "text", None], object)
        records = np.zeros(3, [("n", "i4"), ("o", object)])
        for out in (objects, records, (ctypes.py_object * 3)(1, 2, 3), [objects]):
            with pytest.raises(TypeError, match="holds Python objects"):
                store.get_into("k", out)
        assert objects.tolist() == [1, "text", None]
        out = np.zeros(2, [("Offset", "i4")])  # only its name has an O
        assert store.get_into("k", out) == 8

    def test_dtypes_without_a_format(self, store):
        store.put("k", np.array([1, 2]))
        out = np.zeros(2, "M8[s]")
        assert store.get_into("k", out) == 16
        assert out.view(np.int64).tolist() == [1, 2]
        with pytest.raises(BufferError, match="contiguous"):
            store.get_into("k", np.zeros(4, "M8[s]")[::2])
        out.flags.writeable = False
        with pytest.raises(moorage.ReadOnlyError):
            store.get_into("k", out)

    @pytest.mark.parametrize("value", [-1, 2**63, 2**64 - 1, 2**64, 10**30])
    @pytest.mark.parametrize("name", ["offset", "nbytes"])
    def test_ranges(self, store, name, value):
        store.put("k", bytes(8))
        for out in (bytearray(8), [bytearray(8)]):
            with pytest.raises(moorage.InvalidArgumentError, match=name):
                store.get_into("k", out, **{name: value})


def test_64_dimensions_as_bytes(store):
    array = np.arange(16, dtype=np.int16).reshape((4,) + (1,) * 62 + (4,))[::2, ..., ::2]
    assert array.ndim == 64
    assert store.put("k", array)
    assert store.get("k") == array.tobytes()


class TestProducers:
    def test_what_they_raise_comes_out(self, store):
        for error in (RuntimeError("of theirs"), BufferError("of theirs"), KeyError("of theirs")):
            with pytest.raises(type(error), match="of theirs"):
                store.put_tensor("k", Producer(error))
        assert len(store) == 0

    def test_capsules_that_are_none(self, store):
        for wrong in (None, 5, object()):
            with pytest.raises(TypeError, match="capsule"):
                store.put_tensor("k", Producer(wrong))

    def test_another_device(self, store):
        with pytest.raises(moorage.UnsupportedError, match="another device"):
            store.put_tensor("k", Producer(None, (2, 0)))

    def test_the_same_capsule_twice(self, store):
        capsule = np.arange(3).__dlpack__()
        producer = Producer(capsule)
        assert store.put_tensor("a", producer)
        assert store.put_tensor("b", producer)
        assert store.get_array("b").tolist() == [0, 1, 2]
        np.from_dlpack(producer)
        with pytest.raises(TypeError, match="consumed"):
            store.put_tensor("c", producer)

    def test_flags_and_versions(self, store):
        if tuple(map(int, np.__version__.split(".")[:2])) < (2, 1):
            pytest.skip("this numpy makes no versioned capsules")
        from moorage import _abi, _lib, dlpack

        array = np.arange(3)
        array.flags.writeable = False
        assert store.put_tensor("read-only", Producer(array.__dlpack__(max_version=(1, 0))))
        capsule = array.__dlpack__(max_version=(1, 0))
        struct = dlpack.Capsules(_lib.load()).managed(capsule)
        struct.flags |= _abi.DL_PADDED
        with pytest.raises(moorage.UnsupportedError, match="pads"):
            store.put_tensor("k", Producer(capsule))
        struct.version.major = 2
        with pytest.raises(moorage.UnsupportedError, match="DLPack 2"):
            store.put_tensor("k", Producer(capsule))
        struct.version.major = 1


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    def refuse(self, store, t):
        for call in (
            lambda: store.put_tensor("k", t),
            lambda: store.put_tensors({"k": t}),
            lambda: store.adopt("k", t),
            lambda: store.get_into("there", t),
        ):
            with pytest.raises(moorage.UnsupportedError):
                call()
        assert store.keys() == ["there"]

    def test_wrappers(self, store):
        torch = self.torch
        store.put_tensor("there", torch.ones(4))
        self.torch.vmap(lambda x: (self.refuse(store, x), x)[1])(torch.ones(3, 4))
        torch.func.grad(lambda x: (self.refuse(store, x), x.sum())[1])(torch.ones(4))
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            fake = torch.ones(4)
        self.refuse(store, fake)

    def test_subclasses_do_not_answer_for_their_memory(self, store):
        torch = self.torch

        class Liar(torch.Tensor):
            shape = property(lambda _: (10**9,))

            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                if "data_ptr" in getattr(function, "__name__", ""):
                    return 4096
                return super().__torch_function__(function, types, args, kwargs or {})

        liar = torch.ones(4).as_subclass(Liar)
        assert store.put_tensor("a", liar)
        assert store.put_tensors({"b": liar}) == {"b": True}
        assert store.get_array("a").tolist() == store.get_array("b").tolist() == [1, 1, 1, 1]
        store.put_tensor("two", torch.full((4,), 2.0))
        store.get_into("two", liar)
        assert liar.as_subclass(torch.Tensor).tolist() == [2, 2, 2, 2]

    @pytest.mark.parametrize("listed", [False, True])
    def test_autograd_hears_of_get_into(self, store, listed):
        torch = self.torch
        store.put_tensor("k", torch.zeros(4))
        x, w = torch.ones(4), torch.ones(4, requires_grad=True)
        y = (x * w).sum()
        store.get_into("k", [x] if listed else x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()

    def test_inference_tensors(self, store):
        torch = self.torch
        with torch.inference_mode():
            t = torch.ones(4)
            assert store.put_tensor("k", t)
            assert store.get_into("k", t) == 16
            assert store.get_tensor("k").tolist() == [1, 1, 1, 1]

    def test_meta_that_changes_the_tensor(self, store):
        """The tensor is looked at after its metadata, which may run Python."""
        import sys

        if sys.version_info < (3, 12):
            pytest.skip("classes have the buffer protocol from Python 3.12 on")
        torch = self.torch
        t = torch.ones(1000)

        class Meta:
            def __buffer__(self, _):
                t.set_(torch.zeros(3))
                return memoryview(b"m")

        assert store.put_tensor("k", t, meta=Meta())
        assert store.get_array("k").tolist() == [0, 0, 0]


def test_command_line(capfd):
    from moorage import __main__ as command

    assert command.main([]) == 2
    assert capfd.readouterr().err.startswith("usage: moorage COMMAND")
    assert command.main(["help"]) == 0
    assert "version" in capfd.readouterr().out
    assert command.main(["nonsense"]) == 2
    assert command.main(["version"]) == 0
    said = capfd.readouterr().out
    assert said.startswith(f"moorage {moorage.__version__}, ABI level ")
    assert "route" in said


def test_meta_that_claims_terabytes(store):
    np = pytest.importorskip("numpy")
    huge = np.broadcast_to(np.zeros(1, np.uint8), (1 << 20, 1 << 20))
    with pytest.raises(moorage.InvalidArgumentError, match="meta"):
        store.put("a", b"x", meta=huge)
    assert "a" not in store
