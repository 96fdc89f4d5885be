"""What is measured, and beside which floor."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Callable

import moorage

from .fixture import BATCH, Carrier, Fixture, Windows, capsule_of
from .timing import Statement

Pair = tuple[Statement, Statement]

MANY = 10_000  # objects of the snapshot that is taken

WINDOW = 64 << 10  # from here on mode "cow" is a window; below it is a copy


@dataclass(frozen=True)
class Case:
    """One measurement, to be made at several sizes.

    prepare  gives the statement and its floor
    needs    the packages without which it cannot be made
    touched  reads or writes the bytes (others cost no memory at any size)
    """

    name: str
    floor: str
    prepare: Callable[[Fixture], Any]
    needs: tuple[str, ...] = ()
    touched: bool = False
    batch: bool = False
    smallest: int = 0
    largest: int = 1 << 62


def _names(f: Fixture, **more: Any) -> dict[str, Any]:
    store = f.store
    return {
        "get_tensor": store.get_tensor, "get_tensors": store.get_tensors, "get_array": store.get_array,
        "get_buffer": store.get_buffer, "get_into": store.get_into, "put_tensor": store.put_tensor,
        "put_tensors": store.put_tensors, "empty": store.empty, "adopt": store.adopt, "key": f.key, "keys": f.keys,
        **more,
    }  # fmt: skip


def _bare(f: Fixture) -> Statement:
    """torch's own import of a capsule that is there already; a capsule can be taken once."""
    tensor = f.torch.empty(16, dtype=f.torch.uint8)
    return Statement(
        "from_dlpack(a)", {"from_dlpack": f.torch.from_dlpack}, lambda n: [capsule_of(tensor) for _ in range(n)]
    )


def memcpy(f: Fixture) -> Statement:
    """One thread, touched memory. The targets take turns, as those of a put do: what it replaces is there until it has
    taken its place. (Into one and the same target it would mostly be a matter of the cache.)
    """
    targets = cycle([f.address(f.target), f.address(f.filled())])
    return Statement(
        "memmove(a, source, size)",
        {"memmove": ctypes.memmove, "source": f.address(f.source), "size": f.size},
        lambda n: list(islice(targets, n)),
    )


@contextmanager
def _view(f: Fixture) -> Iterator[Pair]:
    yield Statement('get_tensor(key, mode="view")', _names(f)), _bare(f)


@contextmanager
def _cow(f: Fixture) -> Iterator[Pair]:
    windows, bare = Windows(f.size), _bare(f)
    floor = Statement(
        "munmap(mmap(*how), size); from_dlpack(a)",
        {
            "mmap": windows.mmap, "munmap": windows.munmap, "how": windows.arguments, "size": f.size,
            "from_dlpack": f.torch.from_dlpack,
        },
        bare.arguments,
    )  # fmt: skip
    try:
        yield Statement('get_tensor(key, mode="cow")', _names(f)), floor
    finally:
        windows.close()


@contextmanager
def _copy(f: Fixture) -> Iterator[Pair]:
    yield (
        Statement('get_tensor(key, mode="copy")', _names(f)),
        Statement("clone()", {"clone": f.tensor(f.source).clone}),
    )


@contextmanager
def _array(f: Fixture) -> Iterator[Pair]:
    array = f.numpy.empty(16, dtype="u1")
    floor = Statement(
        "from_dlpack(a)",
        {"from_dlpack": f.numpy.from_dlpack},
        lambda n: [Carrier(capsule_of(array)) for _ in range(n)],
    )
    yield Statement("get_array(key)", _names(f)), floor


@contextmanager
def _buffer(f: Fixture) -> Iterator[Pair]:
    yield Statement("get_buffer(key)", _names(f)), Statement("memoryview(data)", {"data": bytes(16)})


@contextmanager
def _into(f: Fixture) -> Iterator[Pair]:
    yield Statement("get_into(key, out)", _names(f, out=f.target)), memcpy(f)


@contextmanager
def _put(f: Fixture) -> Iterator[Pair]:
    yield Statement("put_tensor(key, t)", _names(f, t=f.tensor(f.source))), memcpy(f)


@contextmanager
def _adopt(f: Fixture) -> Iterator[Pair]:
    """A tensor that was written to, as a producer leaves it. What is timed is the adoption alone."""

    def produced(n: int) -> list[Any]:
        tensors = [f.empty() for _ in range(n)]
        for t in tensors:
            ctypes.memset(t.data_ptr() if f.torch is not None else t.ctypes.data, 1, f.size)
        return tensors

    yield Statement("adopt(key, a)", _names(f), produced, most=1), memcpy(f)


@contextmanager
def _reserve(f: Fixture) -> Iterator[Pair]:
    shape = (f.size,)
    yield Statement("adopt(key, empty(shape, dtype))", _names(f, shape=shape, dtype=f.dtype)), memcpy(f)


@contextmanager
def _batch(f: Fixture) -> Iterator[Pair]:
    tensor = f.torch.empty(16, dtype=f.torch.uint8)
    floor = Statement(
        "[from_dlpack(c) for c in a]",
        {"from_dlpack": f.torch.from_dlpack},
        lambda n: [[capsule_of(tensor) for _ in range(BATCH)] for _ in range(n)],
    )
    yield Statement('get_tensors(keys, mode="view")', _names(f)), floor


@contextmanager
def _batch_put(f: Fixture) -> Iterator[Pair]:
    items = dict.fromkeys(f.keys, f.tensor(f.source))
    begin = f.address(f.filled(BATCH))
    floor = Statement(
        "for target in targets: memmove(target, source, size)",
        {
            "memmove": ctypes.memmove, "source": f.address(f.source), "size": f.size,
            "targets": range(begin, begin + BATCH * f.size, f.size),
        },
    )  # fmt: skip
    yield Statement("put_tensors(items)", _names(f, items=items)), floor


@contextmanager
def _batch_set(f: Fixture) -> Iterator[Pair]:
    with _batch_put(f) as (_, floor):
        items = dict.fromkeys(f.keys, f.tensor(f.source))
        yield Statement("put_tensors(items, atomic=True)", _names(f, items=items)), floor


@contextmanager
def _look_up(f: Fixture) -> Iterator[Pair]:
    with f.store.snapshot() as snapshot:
        yield Statement('get(key, mode="view")', {"get": snapshot.get_tensor, "key": f.key}), _bare(f)


@contextmanager
def _snapshot(_: Fixture) -> Iterator[Pair]:
    """Of a store of its own: the size does not matter. The floor is what Python needs to know the names."""
    text = "\n".join(f"train/{i:07d}" for i in range(MANY))
    with moorage.Store("8MiB") as store:
        for name in text.split("\n"):
            store.put(name, bytes(16))
        floor = Statement('dict(zip(text.split("\\n"), numbers))', {"text": text, "numbers": range(MANY)}, most=4)
        yield Statement('snapshot(prefix="train/")', {"snapshot": store.snapshot}, most=4), floor


def _read(mode: str) -> Callable[[Fixture], Any]:
    @contextmanager
    def prepare(f: Fixture) -> Iterator[Pair]:
        out, t = f.tensor(f.target), f.tensor(f.source)
        yield (
            Statement(f'copy(get_tensor(key, mode="{mode}"))', _names(f, copy=out.copy_)),
            Statement("copy(t)", {"copy": out.copy_, "t": t}),
        )

    return prepare


@contextmanager
def _read_array(f: Fixture) -> Iterator[Pair]:
    out = f.array(f.target)
    yield (
        Statement("copyto(out, get_array(key))", _names(f, copyto=f.numpy.copyto, out=out)),
        Statement("copyto(out, array)", {"copyto": f.numpy.copyto, "out": out, "array": f.array(f.source)}),
    )


_BARE = "torch.from_dlpack of a capsule"

CASES = [
    Case("get_tensor view", _BARE, _view, ("torch",)),
    Case("get_tensor cow", f"mmap + munmap + {_BARE}", _cow, ("torch",), smallest=WINDOW),
    Case("get_tensor copy", "clone", _copy, ("torch",), touched=True, largest=256 << 20),
    Case("get_array", "numpy.from_dlpack of a capsule", _array, ("numpy",)),
    Case("get_buffer", "memoryview of bytes", _buffer, ("numpy",)),
    Case("get_into", "memcpy", _into, touched=True),
    Case("put_tensor", "memcpy", _put, ("numpy",), touched=True),
    Case("adopt", "memcpy", _adopt, ("numpy",), touched=True, largest=256 << 20),
    Case("empty + adopt", "memcpy", _reserve, ("numpy",), touched=True, largest=256 << 20),
    Case("get + read view", "copy of a tensor", _read("view"), ("torch",), touched=True),
    Case("get + read cow", "copy of a tensor", _read("cow"), ("torch",), touched=True, smallest=WINDOW),
    Case("get + read array", "copy of an array", _read_array, ("numpy",), touched=True),
    Case("batch get view", f"{BATCH} x {_BARE}", _batch, ("torch",), touched=True, batch=True, largest=1 << 20),
    Case("batch put", f"{BATCH} x memcpy", _batch_put, ("numpy",), touched=True, batch=True, largest=1 << 20),
    Case("batch put atomic", f"{BATCH} x memcpy", _batch_set, ("numpy",), touched=True, batch=True, largest=1 << 20),
    Case("snapshot look-up view", _BARE, _look_up, ("torch",)),
    Case(f"snapshot of {MANY}", f"dict of {MANY} names", _snapshot, smallest=4 << 10, largest=4 << 10),
]


@contextmanager
def flat(name: str, largest: int, smallest: int) -> Iterator[Pair]:
    """The same statement at two sizes, the second as the floor."""
    case = next(case for case in CASES if case.name == name)
    with ExitStack() as stack:

        def statement(size: int) -> Statement:
            fixture = stack.enter_context(Fixture(size, touched=False))
            pair: Pair = stack.enter_context(case.prepare(fixture))
            return pair[0]

        yield statement(largest), statement(smallest)
