"""Registered memory: what may be registered, how long it lives, what it says about itself."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import os
import pickle
import weakref

import pytest
from programs import run

import moorage
from moorage import _abi, registration

np = pytest.importorskip("numpy")


def test_what_can_be_registered(store: moorage.Store) -> None:
    whole = np.zeros((8, 128), np.float32)
    for obj, nbytes, size in [
        (whole, None, 4096),
        (whole, 100, 100),
        (bytearray(5000), None, 5000),
        (memoryview(bytearray(5000))[1000:], None, 4000),
        (array.array("d", range(100)), None, 800),
        (ctypes.create_string_buffer(64), None, 64),
        (mmap.mmap(-1, 8192), 8192, 8192),
        (whole.ctypes.data, 4096, 4096),
        (np.int64(whole.ctypes.data).item(), np.int64(7), 7),
    ]:
        with store.register(obj, nbytes) as r:
            assert isinstance(r, moorage.Registration)
            assert (r.nbytes, r.locked, r.released) == (size, False, False)
            assert store.is_registered(obj, size) and store.is_registered(r.address, size)
            stats = store.stats()
            assert (stats.registrations, stats.registered_bytes, stats.locked_bytes) == (1, size, 0)
            assert f"{size} bytes at 0x{r.address:x}" in repr(r)
        assert r.released and repr(r) == "<moorage.Registration: released>"
        assert not store.is_registered(r.address, size)
        r.release()
    stats = store.stats()
    assert (stats.registrations, stats.registered_bytes) == (0, 0)
    assert (stats.devices, stats.slab_bytes, stats.device_registrations) == (0, 0, 0)


def test_torch_tensors(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")
    t = torch.zeros(1024, dtype=torch.bfloat16, requires_grad=True)
    with store.register(t) as r:
        assert (r.address, r.nbytes) == (t.data_ptr(), 2048)
        assert store.is_registered(t.detach()[100:])
    with pytest.raises(BufferError, match="obj must be contiguous; register"):
        store.register(torch.zeros(8, 8).t())
    with pytest.raises(TypeError, match="obj must be a dense tensor on the CPU"):
        store.register(torch.zeros(4, device="meta"))
    # The memory stays, whatever becomes of the tensor.
    t = torch.zeros(1 << 20)
    storage = weakref.ref(t.untyped_storage())
    r = store.register(t)
    t.set_(torch.zeros(1).untyped_storage())
    gc.collect()
    assert storage() is not None
    r.release()


def test_partly_is_not(store: moorage.Store) -> None:
    a = np.zeros(1 << 16, np.uint8)
    with store.register(a[4096:]):
        assert store.is_registered(a[4096:]) and store.is_registered(a[5000:6000])
        assert not store.is_registered(a) and not store.is_registered(a[4095:5000])
        with store.register(a[:5000]):
            assert not store.is_registered(a)  # it lies in both together, and in none
            assert store.is_registered(a[4095:5000])
        assert not store.is_registered(a[4095:5000])


def test_memory_of_the_store_needs_none(store: moorage.Store) -> None:
    store.put_tensor("k", np.zeros(1 << 20, np.uint8))
    view = store.get_array("k")
    assert store.is_registered(view)
    made = store.empty(4096, np.uint8)
    assert store.is_registered(made)
    for mine in (made, view.ctypes.data):
        with pytest.raises(moorage.InvalidArgumentError, match="obj cannot be registered.*memory of a store"):
            store.register(mine, 4096)
    assert store.stats().registrations == 0


@pytest.mark.parametrize(
    ("obj", "nbytes", "error", "text"),
    [
        (bytes(8), None, moorage.ReadOnlyError, "obj is read-only"),
        ("text", None, TypeError, "obj must be a writable buffer"),
        (None, None, TypeError, "obj must be"),
        (True, 8, TypeError, "obj must be"),
        (4096, None, TypeError, "nbytes must be given"),
        (4096, 8, moorage.InvalidArgumentError, "obj cannot be registered.*not all of 8 bytes.*mapped"),
        (0, 8, moorage.InvalidArgumentError, "obj is the address 0"),
        (-5, 8, moorage.InvalidArgumentError, "obj is the address -5"),
        (2**64, 8, moorage.InvalidArgumentError, "obj is the address"),
        (2**62, 2**62, moorage.InvalidArgumentError, "obj cannot be registered"),
        (4096, 2**63, moorage.InvalidArgumentError, "nbytes"),
        (4096, 0, moorage.InvalidArgumentError, "nbytes is 0"),
        (bytearray(8), 9, moorage.InvalidArgumentError, "nbytes is 9, and obj has 8"),
        (bytearray(8), 0, moorage.InvalidArgumentError, "nbytes is 0"),
        (bytearray(8), -1, moorage.InvalidArgumentError, "nbytes"),
        (bytearray(8), "8", TypeError, "nbytes must be an int"),
        (bytearray(), None, moorage.InvalidArgumentError, "obj has no bytes"),
        (np.zeros((4, 4))[:, 1], None, BufferError, "obj must be contiguous"),
        (np.empty(2, object), None, TypeError, "obj holds Python objects"),
    ],
)
def test_what_cannot(store: moorage.Store, obj: object, nbytes: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        store.register(obj, nbytes)  # type: ignore[arg-type]
    assert store.stats().registrations == 0


def test_lock_is_a_bool(store: moorage.Store) -> None:
    with pytest.raises(TypeError, match="lock must be True or False"):
        store.register(bytearray(8), lock="yes")  # type: ignore[arg-type]
    for bad in (b"", "x"):
        with pytest.raises((TypeError, moorage.InvalidArgumentError), match="obj"):
            store.is_registered(bad)
    with pytest.raises(moorage.InvalidArgumentError, match="nbytes is 9"):
        store.is_registered(bytes(8), 9)


def _locked() -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmLck"))


def test_lock(store: moorage.Store) -> None:
    memory = mmap.mmap(-1, 1 << 16)
    before = _locked()
    with store.register(memory, lock=True) as outer:
        assert outer.locked and "locked" in repr(outer)
        assert _locked() == before + (1 << 16) and store.stats().locked_bytes == 1 << 16
        inner = store.register(memory, 10, lock=True)
    assert _locked() == before + mmap.PAGESIZE
    inner.release()
    assert _locked() == before and store.stats().locked_bytes == 0
    assert store.stats().register_ns > 0
    memory.close()


def test_it_keeps_its_object(store: moorage.Store) -> None:
    array_ = np.zeros(1000)
    alive = weakref.ref(array_)
    r = store.register(array_)
    del array_
    gc.collect()
    assert alive() is not None
    r.release()
    assert alive() is None
    data = bytearray(100)
    r = store.register(data)
    with pytest.raises(BufferError):
        data.extend(b"it would move")
    del r  # and with the last reference it ends
    data.extend(b"it may move")
    assert store.stats().registrations == 0


def test_closing_ends_it(open_store) -> None:
    store = open_store()
    r = store.register(bytearray(4096))
    store.close(wait=True)
    r.release()
    with pytest.raises(moorage.ClosedError):
        store.register(bytearray(8))
    with pytest.raises(moorage.ClosedError):
        store.is_registered(bytearray(8))


def test_pickle(store: moorage.Store) -> None:
    with store.register(bytearray(8)) as r, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(r)


def test_in_a_forked_child(store: moorage.Store) -> None:
    data = bytearray(8)
    r = store.register(data)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (lambda: store.register(bytearray(8)), lambda: store.is_registered(data)):
                with pytest.raises(moorage.ForkedError, match="spawn"):
                    call()
            r.release()  # nothing to do here
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.is_registered(data)
    r.release()


class _Busy:
    """A library in which transfers are in flight for a while."""

    def __init__(self, times: int) -> None:
        self.times, self.calls, self.c = times, 0, self

    def moor_registration_release(self, handle: int, timeout: int) -> int:
        self.calls += 1
        return _abi.TIMEOUT if self.calls <= self.times else 0

    def last_error(self) -> str:
        return "transfers are in flight"


class _Lent:
    address, size = 4096, 8


def test_release_waits_for_transfers() -> None:
    r = registration.Registration(_Busy(3), 5, _Lent(), False)  # type: ignore[arg-type]
    with pytest.raises(moorage.WaitTimeoutError, match="in flight"):
        r.release(timeout=0)
    assert not r.released
    r.release()
    assert r.released


def test_dropped_under_a_transfer(store: moorage.Store) -> None:
    busy, lent = _Busy(2), _Lent()
    alive = weakref.ref(lent)
    r = registration.Registration(busy, 5, lent, False)  # type: ignore[arg-type]
    del r, lent
    assert alive() is not None, "a device still writes there"
    store.register(bytearray(8)).release()
    assert alive() is not None
    store.register(bytearray(8)).release()
    assert alive() is None and busy.calls == 3


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_memlock(limit: int) -> None:
    """As an ordinary user: one without the right to lock as much as it likes."""
    ended = run(
        f"""
        import ctypes, mmap, resource, moorage
        store = moorage.Store("1MiB")
        resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit}, {limit}))
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        none = (ctypes.c_uint32 * 6)()
        assert libc.capset(header, none) == 0
        memory, other = mmap.mmap(-1, 600 << 10), mmap.mmap(-1, 600 << 10)
        if {limit}:
            store.register(memory, lock=True).release()
        kept = store.register(memory, lock={bool(limit)})
        try:
            store.register(other, lock=True)
        except moorage.NoMemoryError as error:
            print(error)
        assert store.stats().registrations == 1
        store.register(other).release()  # without the lock there is no limit
        kept.release()
        """
    ).cleanly()
    used = 600 << 10 if limit else 0
    assert f"limit is {limit} bytes, {600 << 10} were asked for, {used} are locked" in ended.out


def test_nothing_is_registered_by_puts_and_gets(store: moorage.Store) -> None:
    for i in range(10):
        store.put_tensor(f"{i}", np.arange(100_000))
        store.get_array(f"{i}")
    stats = store.stats()
    assert (stats.registrations, stats.device_registrations, stats.register_ns) == (0, 0, 0)


NO_MESSAGES = """
import ctypes, platform, mmap, moorage
CALLS = {"x86_64": (41, 42, 44, 46, 53, 307), "aarch64": (198, 203, 206, 211, 199, 269)}
NUMBERS = CALLS[platform.machine()]

class Line(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]

class Program(ctypes.Structure):
    _fields_ = [("n", ctypes.c_uint16), ("lines", ctypes.POINTER(Line))]

def forbid():
    # Whoever makes a socket or sends anything is killed, in whatever thread.
    lines = [Line(0x20, 0, 0, 0)]
    lines += [Line(0x15, len(NUMBERS) - i, 0, n) for i, n in enumerate(NUMBERS)]
    lines += [Line(0x06, 0, 0, 0x7FFF0000), Line(0x06, 0, 0, 0x80000000)]
    program = Program(len(lines), (Line * len(lines))(*lines))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    if libc.syscall(number, 1, 1, ctypes.byref(program)) != 0:
        raise SystemExit(77)

store = moorage.Store("64MiB")
memory = mmap.mmap(-1, 1 << 20)
forbid()
"""


def _filtered(code: str) -> int:
    status = run(NO_MESSAGES + code).status
    if status == 77:
        pytest.skip("probed seccomp: this process may not install a filter")
    return status


def test_registering_tells_nobody() -> None:
    assert _filtered("import socket\nsocket.socket()\n") == -31, "the filter does not see a socket"
    assert (
        _filtered(
            """
with store.register(memory, lock=True), store.register(memory, 4096):
    assert store.is_registered(memory)
store.put("k", bytes(1 << 20))
store.trim()
store.close(wait=True)
"""
        )
        == 0
    )
