"""Calls every public method of a store with arguments drawn from a pool of strange ones. Run by test_fuzz.py.

    python fuzz_arguments.py EXAMPLES SEED

A call ends with a result or a documented exception; a refused one changes nothing; the store works on.
"""

from __future__ import annotations

import array
import ctypes
import gc
import inspect
import os
import sys
import tempfile
import warnings

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import moorage

try:
    import torch
except ImportError:
    torch = None

EXAMPLES, SEED = map(int, sys.argv[1:])

warnings.simplefilter("ignore")
os.chdir(tempfile.mkdtemp())


class Evil(Exception):
    pass


class Raises:
    def __getattr__(self, name):
        raise Evil(name)

    def evil(self, *_, **__):
        raise Evil

    __len__ = __iter__ = __index__ = __eq__ = __hash__ = __call__ = __str__ = __fspath__ = __dlpack__ = evil
    __dlpack_device__ = __bool__ = __float__ = __getitem__ = __contains__ = __repr__ = __buffer__ = evil


class Text(str):
    __hash__ = str.__hash__

    def encode(self, *_):
        raise Evil

    def __eq__(self, other):
        raise Evil


class Sub(np.ndarray):
    dtype = property(lambda self: Raises().dtype)
    strides = property(lambda self: (10**9,))


class Producer:
    def __init__(self, capsule, device=(1, 0)):
        self.capsule, self.device = capsule, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **_):
        return self.capsule


def released():
    view = memoryview(b"abc")
    view.release()
    return view


def read_only():
    a = np.zeros(8)
    a.flags.writeable = False
    return a


def consumed():
    p = Producer(np.zeros(3).__dlpack__())
    np.from_dlpack(p)
    return p


def made_by(store, method, *arguments, **options):
    store.put("of", bytes(range(64)), if_exists="keep")
    return getattr(store, method)(*arguments, **options)


def adopted(store):
    a = store.empty(70000, "u1")
    keep = a[1:]
    store.adopt("adopted", a)
    return keep


# Each makes its object from the store, which most do not need.
objects = {
    "none": lambda s: None,
    "true": lambda s: True,
    "zero": lambda s: 0,
    "minus": lambda s: -1,
    "huge": lambda s: 2**70,
    "2**63": lambda s: 2**63,
    "2**64-1": lambda s: 2**64 - 1,
    "float": lambda s: 1.5,
    "nan": lambda s: float("nan"),
    "complex": lambda s: 1j,
    "object": lambda s: object(),
    "type": lambda s: dict,
    "function": lambda s: len,
    "raises": lambda s: Raises(),
    "text": lambda s: "there",
    "empty": lambda s: "",
    "long": lambda s: "k" * 5000,
    "surrogate": lambda s: "\ud800",
    "wide": lambda s: "\U0001f600",
    "latin": lambda s: "\xe9",
    "zeros": lambda s: "a\0b",
    "subclass": lambda s: Text("there"),
    "bytes": lambda s: b"abc",
    "bytearray": lambda s: bytearray(64),
    "released": lambda s: released(),
    "array": lambda s: array.array("d", [1, 2]),
    "strided": lambda s: memoryview(bytes(64))[::-3],
    "2-d": lambda s: memoryview(bytes(64)).cast("B", (8, 8)),
    "list": lambda s: [1, "a", None],
    "keys": lambda s: ["there", "absent"],
    "tuple": lambda s: ("there", b""),
    "dict": lambda s: {"there": 1},
    "set": lambda s: {"there"},
    "generator": lambda s: (c for c in "abc"),
    "nested": lambda s: [bytearray(8), np.zeros(7, np.uint8)],
    "pairs": lambda s: [("there", np.zeros(3)), ("x", [1]), ("x", np.ones(2))],
    "np": lambda s: np.arange(8.0),
    "np large": lambda s: np.zeros(100_000),
    "np too large": lambda s: np.zeros(300_000),
    "np reversed": lambda s: np.arange(8)[::-1],
    "np big": lambda s: np.arange(8, dtype=">i4"),
    "np ro": lambda s: read_only(),
    "np objects": lambda s: np.array([1, "a", None]),
    "np text": lambda s: np.array(["a"]),
    "np void": lambda s: np.zeros(3, "V0"),
    "np record": lambda s: np.zeros(3, [("a", "i1"), ("O", "f8")]),
    "np date": lambda s: np.zeros(3, "M8[s]"),
    "np long": lambda s: np.zeros(3, np.longdouble),
    "np 0-d": lambda s: np.array(3),
    "np none": lambda s: np.zeros((0, 5)),
    "np deep": lambda s: np.zeros((1,) * 64),
    "np deep strided": lambda s: np.zeros((4,) + (1,) * 62 + (4,))[::2, ..., ::2],
    "np expanded": lambda s: np.broadcast_to(np.int8(1), (2,) * 20 + (2**30,)),
    "np ma": lambda s: np.ma.zeros(3),
    "np matrix": lambda s: np.matrix([[1, 2]]),
    "np sub": lambda s: np.zeros(8).view(Sub),
    "np scalar": lambda s: np.float32(1),
    "np str": lambda s: np.str_("there"),
    "dtype": lambda s: np.dtype("f4"),
    "dtype name": lambda s: "float16",
    "dtype O": lambda s: object,
    "ctypes": lambda s: (ctypes.c_int * 4)(),
    "py_object": lambda s: (ctypes.py_object * 4)(),
    "producer": lambda s: Producer(np.zeros(3).__dlpack__()),
    "gpu": lambda s: Producer(None, (2, 0)),
    "no capsule": lambda s: Producer(5),
    "consumed": lambda s: consumed(),
    "no device": lambda s: Producer(None, None),
    "store": lambda s: s,
    "buffer": lambda s: made_by(s, "get_buffer", "of"),
    "window": lambda s: made_by(s, "get_buffer", "of", mode="cow"),
    "view": lambda s: made_by(s, "get_array", "of"),
    "reserved": lambda s: s.empty(64, "u1"),
    "adopted": adopted,
    "path": lambda s: "file",
    "device": lambda s: "/dev/full",
    "folder": lambda s: ".",
    "file": lambda s: __file__,
    "replace": lambda s: "replace",
    "keep": lambda s: "keep",
    "raise": lambda s: "raise",
    "mode view": lambda s: "view",
    "mode cow": lambda s: "cow",
    "mode copy": lambda s: "copy",
    "kind array": lambda s: "array",
    "kind buffer": lambda s: "buffer",
    "queue": lambda s: moorage.JobQueue(),
    "room": lambda s: {"there": bytearray(64), "tensor": np.zeros(20_000, np.int64)},
    "shape": lambda s: (2, 3),
    "shape huge": lambda s: (2**40, 2**40),
    "shape minus": lambda s: (-1, 2),
}
if torch is not None:
    objects.update(
        {
            "t": lambda s: torch.ones(8),
            "t grad": lambda s: torch.ones(8, requires_grad=True),
            "t bf16": lambda s: torch.ones(8, dtype=torch.bfloat16),
            "t sparse": lambda s: torch.ones(3).to_sparse(),
            "t meta": lambda s: torch.ones(3, device="meta"),
            "t conj": lambda s: torch.ones(3, dtype=torch.complex64).conj(),
            "t expanded": lambda s: torch.ones(1).expand(2**40),
            "t 0-d": lambda s: torch.tensor(3),
            "t none": lambda s: torch.empty(0, 3),
            "t quantized": lambda s: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "t nested": lambda s: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
            "t zero": lambda s: torch._efficientzerotensor(3),
            "t view": lambda s: made_by(s, "get_tensor", "of", mode="view"),
            "t view as np": lambda s: made_by(s, "get_tensor", "of", mode="view").numpy(),
            "t reserved": lambda s: s.empty(64, torch.uint8),
            "t dtype": lambda s: torch.float32,
            "t odd dtype": lambda s: torch.qint8,
            "t device": lambda s: torch.device("cpu"),
            "sd": lambda s: {"w": torch.ones(2, 3), "n": [1, {"t": torch.ones(2)}]},
            "module": lambda s: torch.nn.Linear(3, 2),
        }
    )
names = st.sampled_from(sorted(objects))
likely = {
    "key": "text",
    "prefix": "empty",
    "keys": "keys",
    "keys_": "keys",
    "t": "np",
    "data": "bytes",
    "parts": "bytes",
    "meta": "bytes",
    "if_exists": "replace",
    "mode": "mode view",
    "out": "bytearray",
    "offset": "zero",
    "nbytes": "none",
    "device": "none",
    "items": "pairs",
    "path": "path",
    "kind": "kind array",
    "queue": "none",
    "offsets": "none",
    "atomic": "true",
    "shape": "shape",
    "dtype": "dtype",
    "missing": "raise",
    "progress": "none",
    "default": "none",
    "missing_ok": "true",
    "non_blocking": "zero",
    "wait": "zero",
    "sd": "sd" if torch else "dict",
    "module": "module" if torch else "none",
    "strict": "true",
}

methods = [name for name in dir(moorage.Store) if not name.startswith("_") and name != "close"]
methods += ["__contains__", "__getitem__", "__len__", "__repr__", "__bool__"]
KEPT = (
    "objects",
    "used",
    "borrowed_objects",
    "pinned_objects",
    "puts",
    "removes",
    "adoptions",
    "windows",
    "bytes_copied_in",
)
allowed = (moorage.MoorageError, TypeError, ValueError, BufferError, Evil, *(() if torch else (ImportError,)))
# A refusal in the middle of these may come after a part was done, as they say.
in_parts = {"put_tensors", "clear"}

CALLED = []


def state(store):
    stats = store.stats()
    return {name: getattr(stats, name) for name in KEPT}, sorted(store.keys())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@seed(SEED)
@given(st.data())
def fuzz(data):
    with moorage.Store("1MiB") as store:
        store.put("there", bytes(range(64)), meta=b"m")
        store.put_tensor("tensor", np.arange(20_000))
        method = data.draw(st.sampled_from(methods), "method")
        call = getattr(store, method)
        arguments, options = [], {}
        try:
            for p in inspect.signature(call).parameters.values():
                usual = likely.get(p.name)
                count = data.draw(st.integers(0, 3)) if p.kind is p.VAR_POSITIONAL else 1
                for _ in range(count):
                    name = data.draw(st.one_of(st.just(usual), names) if usual else names, p.name)
                    made = objects[name](store)
                    if p.kind is p.KEYWORD_ONLY:
                        options[p.name] = made
                    else:
                        arguments.append(made)
        except Evil:
            return
        if method == "wait" and type(arguments[1]) in (type(None), int, float):
            arguments[1] = 0  # it does wait as long as it is told to
        CALLED.append(method)
        gc.collect(0)
        before = state(store)
        failure = made = None
        try:
            made = call(*arguments, **options)
        except allowed as error:
            failure = type(error).__name__
        except RuntimeError:
            # Of torch's, or of what was iterated over.
            theirs = (memoryview, *((torch.Tensor, torch.dtype, torch.nn.Module) if torch else ()))
            if options.get("device") is None and not any(
                isinstance(a, theirs) for a in arguments + [*options.values()]
            ):
                raise
            failure = "RuntimeError"
        if isinstance(made, moorage.Job):
            made.outcomes()
        if failure and method not in in_parts:
            assert state(store) == before, failure
        del made
        # The store works on.
        assert store.put("works", b"on") and store.get("works") == b"on"
        arguments.clear()
        options.clear()


fuzz()
print("done", len(CALLED), len(set(CALLED)))
