"""What `import moorage` costs and brings, and what the package shows."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

import moorage


def run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_brings_neither_numpy_nor_torch_nor_the_library():
    code = """
import sys, moorage
print([name for name in ("numpy", "torch", "ml_dtypes") if name in sys.modules])
print("libmoorage" in open("/proc/self/maps").read())
"""
    assert run(code).splitlines() == ["[]", "False"]


def test_the_library_comes_with_the_first_store_and_numpy_and_torch_do_not():
    code = """
import sys, moorage
store = moorage.Store("1MiB")
store.put("k", b"bytes")
assert bytes(store.get_buffer("k")) == store.get("k") == b"bytes"
print([name for name in ("numpy", "torch", "ml_dtypes") if name in sys.modules])
print("libmoorage" in open("/proc/self/maps").read())
"""
    assert run(code).splitlines() == ["[]", "True"]


def test_import_is_quick(tmp_path):
    """At most 30 ms beside a program that imports what any ctypes program does. By CPU time: the machine is shared."""

    def seconds(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # As an installed package has it: compiled once.
        run(code, PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(tmp_path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    usual = "import ctypes, dataclasses, logging, threading"
    seconds("import moorage")  # writes the bytecode
    extra = min(seconds("import moorage") for _ in range(7)) - min(seconds(usual) for _ in range(7))
    assert extra < 0.030, f"{extra * 1000:.1f} ms"


def test_all_is_what_there_is():
    assert sorted(moorage.__all__) == sorted(set(moorage.__all__))
    for name in moorage.__all__:
        assert getattr(moorage, name) is not None
    classes = {name for name, value in vars(moorage).items() if isinstance(value, type)}
    ours = {name for name in classes if getattr(moorage, name).__module__.startswith("moorage")}
    assert ours <= set(moorage.__all__)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        moorage.nothing_here  # noqa: B018


def test_everything_public_is_documented():
    for name in moorage.__all__:
        thing = getattr(moorage, name)
        if isinstance(thing, type):
            assert thing.__doc__, name
    for name, method in vars(moorage.Store).items():
        if not name.startswith("_"):
            assert method.__doc__, name


def test_the_route_is_the_one_that_was_asked_for():
    code = "import moorage; print(moorage.Store('1MiB')._route_name)"
    assert run(code, MOORAGE_ROUTE="ctypes") == "ctypes"
    assert run(code, MOORAGE_ROUTE="builtin") == "builtin"


def test_a_route_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("MOORAGE_ROUTE", "carrier pigeon")
    with pytest.raises(moorage.InvalidArgumentError, match="MOORAGE_ROUTE"):
        moorage.Store("1MiB")


def test_command_line():
    def moorage_command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "moorage", *words], capture_output=True, text=True, timeout=60)

    version = moorage_command("version")
    assert version.returncode == 0
    assert moorage.__version__ in version.stdout
    assert moorage_command("help").returncode == 0
    unknown = moorage_command("fly")
    assert unknown.returncode == 2
    assert "usage" in unknown.stderr


def test_torch_and_numpy_are_asked_for_by_name_when_they_are_missing():
    code = """
import sys
sys.modules["torch"] = None
sys.modules["numpy"] = None
import moorage
store = moorage.Store("1MiB")
store.put("k", b"bytes")
state_dicts = (lambda p: store.put_state_dict({}, p), store.get_state_dict, lambda p: store.assign_to(None, p))
for getter in (store.get_tensor, store.get_array, store.pop_tensor, *state_dicts):
    try:
        getter("k")
    except ImportError as error:
        print(error)
try:
    store.get_tensors(["k"])
except ImportError as error:
    print(error)
assert store.get("k") == b"bytes"
"""
    lines = run(code).splitlines()
    assert "get_array" in lines[0]
    assert "get_buffer" in lines[1]
    assert len(lines) == 7 and all("torch is needed here" in line for line in lines[3:])


def test_pop_gives_an_array_when_there_is_no_torch():
    pytest.importorskip("numpy")
    code = """
import sys
sys.modules["torch"] = None
import moorage, numpy as np
store = moorage.Store("1MiB")
store.put_tensor("k", np.arange(4, dtype="int16"))
a = store.pop_tensor("k")
a += 1
print(type(a).__name__, a.tolist(), "k" in store)
"""
    assert run(code) == "ndarray [1, 2, 3, 4] False"
