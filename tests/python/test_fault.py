"""A write to memory that cannot be written to: the process ends, and one line says which key and what to do."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from programs import Ended, run_prepared

import moorage

OPEN = """
import ctypes, faulthandler, os, sys, threading
import moorage
{before}
store = moorage.Store("4MiB")
{after}
"""

# When faulthandler is switched on, as the code before and after the first store.
FAULTHANDLER = {
    "off": ("", ""),
    "before": ("faulthandler.enable()", ""),
    "after": ("", "faulthandler.enable(); moorage.Store('1MiB').close()"),
}

WRITES = {
    "item": "t[0] = 1",
    "in place": "t.add_(1)",
    "another thread": "thread = threading.Thread(target=lambda: t.add_(1)); thread.start(); thread.join()",
    "numpy of it": "t.numpy()[0] = 1",
    "out": "torch.add(torch.ones_like(t), 1, out=t)",
}

READ_ONLY_LINE = 'moorage: a write to a shared read-only view of key "layer.0.weight"; use mode="cow"'
ADOPTED_LINE = 'moorage: a write to an adopted tensor of key "layer.0.weight"; '


def lines(ended: Ended) -> list[str]:
    return [line for line in ended.error.splitlines() if line.startswith("moorage:")]


def died_with(ended: Ended, line: str) -> None:
    assert ended.status == -signal.SIGSEGV, f"status {ended.status}\n{ended.out}\n{ended.error}"
    assert len(lines(ended)) == 1, ended.error
    assert lines(ended)[0].startswith(line), ended.error
    assert "goroutine" not in ended.error
    assert "survived" not in ended.out


def program(how: str, body: str) -> str:
    before, after = FAULTHANDLER[how]
    return OPEN.format(before=before, after=after) + body


def of_torch(how: str, write: str, size: int = 4096) -> str:
    return program(
        how,
        f"""
import torch
torch.set_num_threads(1)
store.put_tensor("other", torch.zeros({size}))
store.put_tensor("layer.0.weight", torch.zeros({size}))
t = store.get_tensor("layer.0.weight", mode="view")
{write}
print("survived")
""",
    )


@pytest.mark.parametrize("how", FAULTHANDLER)
def test_a_write_by_torch_ends_with_the_line(how: str) -> None:
    pytest.importorskip("torch")
    ended = run_prepared(of_torch(how, WRITES["in place"]))
    died_with(ended, READ_ONLY_LINE)
    assert ("Fatal Python error: Segmentation fault" in ended.error) == (how != "off")


@pytest.mark.parametrize("write", [write for write in WRITES if write != "in place"])
def test_every_kind_of_write_by_torch_ends_with_the_line(write: str) -> None:
    pytest.importorskip("torch")
    died_with(run_prepared(of_torch("off", WRITES[write])), READ_ONLY_LINE)


def test_a_write_by_two_threads_of_torch_ends_with_one_line() -> None:
    pytest.importorskip("torch")
    write = "torch.set_num_threads(2); t.add_(1)"
    died_with(run_prepared(of_torch("off", write, size=400_000), env={"OMP_NUM_THREADS": "2"}), READ_ONLY_LINE)


def test_the_line_can_be_turned_off() -> None:
    pytest.importorskip("torch")
    for how in ("off", "before"):
        ended = run_prepared(of_torch(how, "t[0] = 1"), env={"MOORAGE_FAULT_HANDLER": "0"})
        assert ended.status == -signal.SIGSEGV
        assert lines(ended) == []
        assert ("Fatal Python error" in ended.error) == (how == "before")


def test_modes_in_which_torch_may_write() -> None:
    pytest.importorskip("torch")
    body = """
for mode in ("cow", "copy"):
    t = store.get_tensor("layer.0.weight", mode=mode)
    t[0] = 1
    t.add_(1)
    assert t[0] == 2
assert store.get_tensor("layer.0.weight", mode="view").sum() == 0
"""
    run_prepared(of_torch("off", body, size=50_000).replace('print("survived")', "")).cleanly()


# ---- where Python can say no ----


def test_numpy_and_memoryview_refuse_by_an_exception() -> None:
    with moorage.Store("1MiB") as store:
        store.put_tensor("k", np.arange(100))
        array = store.get_array("k")
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            array += 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        view = memoryview(store.get_buffer("k"))
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
        with pytest.raises(moorage.ReadOnlyError):
            store.get_into("k", array)
        assert bool((store.get_array("k") == np.arange(100)).all())
        del array, view


# ---- a late write by the producer ----


@pytest.mark.parametrize("how", FAULTHANDLER)
def test_a_late_write_by_the_producer_ends_with_the_line(how: str) -> None:
    body = """
import numpy as np
a = store.empty((100, 100), "float32")
a[:] = 3
part = a[5:]  # the array itself is told by adopt, and raises
assert store.adopt("layer.0.weight", a)
part[0, 5] = 4
print("survived")
"""
    ended = run_prepared(program(how, body), torch=False)
    died_with(ended, ADOPTED_LINE)
    assert ("Fatal Python error: Segmentation fault" in ended.error) == (how != "off")


def test_a_late_write_by_torch_through_a_slice_that_was_kept() -> None:
    pytest.importorskip("torch")
    body = """
import torch
a = store.empty((100, 100), torch.float32)
a.fill_(3)
part = a[50:]
assert store.adopt("layer.0.weight", a)
del a
part[0, 0] = 4
print("survived")
"""
    died_with(run_prepared(program("off", body)), ADOPTED_LINE)


def test_an_adopted_object_is_unchanged_after_a_late_write() -> None:
    """Seen by a child that has a view of the object and outlives the process that wrote."""
    ended = run_prepared(
        """
        import ctypes, os
        import moorage

        def produce(alive, said):
            store = moorage.Store("4MiB")
            a = store.empty(100_000, "uint8")
            a[:] = 3
            assert store.adopt("k", a)
            view = store.get_array("k")
            if os.fork() == 0:
                os.close(alive[1])
                os.read(alive[0], 1)  # until the producer is dead
                os.write(said[1], b"same" if (view == 3).all() else b"changed")
                os._exit(0)
            ctypes.memset(a.ctypes.data + 5000, 9, 1)
            os._exit(0)

        alive, said = os.pipe(), os.pipe()
        producer = os.fork()
        if producer == 0:
            produce(alive, said)
        os.close(alive[1])
        print(os.waitpid(producer, 0)[1], os.read(said[0], 10).decode())
        """,
        torch=False,
    )
    assert (ended.status, ended.out) == (0, "11 same\n"), ended.error
    assert lines(ended)[0].startswith('moorage: a write to an adopted tensor of key "k"')


# ---- faults of others ----

NULL_WRITE = "ctypes.memset(8, 1, 1)"


@pytest.mark.parametrize("how", FAULTHANDLER)
def test_a_foreign_fault_passes_on(how: str) -> None:
    ended = run_prepared(program(how, NULL_WRITE), torch=False)
    assert ended.status == -signal.SIGSEGV, ended.error
    assert lines(ended) == []
    assert "goroutine" not in ended.error
    assert ("Fatal Python error: Segmentation fault" in ended.error) == (how != "off")
    assert ("most recent call first" in ended.error) == (how != "off")


def test_a_signal_that_somebody_sends_passes_on() -> None:
    ended = run_prepared(program("off", "os.kill(os.getpid(), 11); import time; time.sleep(5)"), torch=False)
    assert ended.status == -signal.SIGSEGV
    assert lines(ended) == []


def test_a_handler_of_the_program_below_ours_still_runs() -> None:
    body = """
libc = ctypes.CDLL(None)
@ctypes.CFUNCTYPE(None, ctypes.c_int)
def handler(number):
    os.write(1, b"handler ran")
    os._exit(7)
libc.signal(11, handler)
"""
    code = OPEN.format(before=body, after="ctypes.memset(8, 1, 1)")
    ended = run_prepared(code, torch=False)
    assert (ended.status, ended.out) == (7, "handler ran")
    code = OPEN.format(before=body, after="store.put('k', b'x'); import numpy as np; a = store.get_array('k')")
    ended = run_prepared(code + "ctypes.memset(a.ctypes.data, 1, 1)", torch=False)
    assert (ended.status, ended.out) == (7, "handler ran")
    assert lines(ended)[0].startswith('moorage: a write to a shared read-only view of key "k"')


# ---- the line itself ----


def written_under(key: str) -> str:
    body = f"""
key = {key!r}
store.put(key, b"x" * 100)
a = store.get_array(key)
ctypes.memset(a.ctypes.data, 1, 1)
"""
    ended = run_prepared(program("off", body), torch=False)
    assert ended.status == -signal.SIGSEGV
    assert len(ended.error.splitlines()) == 1 and ended.error.endswith("\n"), ended.error
    return ended.error


def test_a_key_cannot_steer_the_terminal() -> None:
    line = written_under('a\n"b"\\\x1b[2Jüž%s%n\t')
    assert 'key "a\\x0a\\x22b\\x22\\x5c\\x1b[2J\\xc3\\xbc\\xc5\\xbe%s%n\\x09"' in line
    assert all(" " <= c <= "~" for c in line.rstrip("\n"))


def test_a_very_long_key_is_cut() -> None:
    line = written_under("k" * 4096)
    assert len(line) < 600
    assert 'kkkk..."' in line and 'mode="cow"' in line
    assert 'mode="cow"' in written_under("\x01" * 4096)


def test_the_key_of_an_object_that_lost_its_name() -> None:
    body = """
import gc
for i in range(2000):
    store.put(f"k{i}", b"x" * 64)
view = store.get_array("k1234")
store.clear()
ctypes.memset(view.ctypes.data + 63, 1, 1)
"""
    died_with(
        run_prepared(program("off", body), torch=False), 'moorage: a write to a shared read-only view of key "k1234"'
    )


def test_after_close_the_line_still_names_the_key() -> None:
    body = """
store.put("k", b"x" * 64)
view = store.get_array("k")
store.close(wait=True)
ctypes.memset(view.ctypes.data, 1, 1)
"""
    died_with(run_prepared(program("off", body), torch=False), 'moorage: a write to a shared read-only view of key "k"')


def test_in_a_forked_child_the_line_comes_without_a_key() -> None:
    body = """
store.put("k", b"x" * 64)
view = store.get_array("k")
pid = os.fork()
if pid == 0:
    ctypes.memset(view.ctypes.data, 1, 1)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
assert store.get("k") == b"x" * 64
"""
    ended = run_prepared(program("off", body), torch=False)
    assert (ended.status, ended.out) == (0, f"{int(signal.SIGSEGV)}\n")
    assert lines(ended) == [ended.error.rstrip("\n")]
    assert "not known in a forked child" in ended.error and 'mode="cow"' in ended.error
