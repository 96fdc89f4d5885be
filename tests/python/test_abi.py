"""What the package repeats of moorage.h, compared with the C compiler and the header itself."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import moorage
from moorage import _abi, _dtypes, _lib, errors, timings

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "include" / "moorage.h"


def header() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Sizes, offsets and constants, as the C compiler has them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("probed for cc and gcc: no C compiler")
    program = tmp_path_factory.mktemp("abi") / "offsets"
    source = ROOT / "tests" / "header" / "offsets.c"
    subprocess.run([compiler, f"-I{HEADER.parent}", str(source), "-o", str(program)], check=True)
    return json.loads(subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout)


def test_every_struct_of_the_header_is_declared(compiled):
    # Python has no use for the handles, which are integers to it.
    handles = {"moor_store", "moor_reservation", "moor_snapshot", "moor_registration", "moor_queue", "moor_job"}
    assert set(compiled["structs"]) - handles == set(_abi.STRUCTS)


@pytest.mark.parametrize("name", sorted(_abi.STRUCTS))
def test_struct_is_laid_out_as_in_c(compiled, name):
    struct, expected = _abi.STRUCTS[name], compiled["structs"][name]
    fields = {field[0]: [getattr(struct, field[0]).offset, getattr(struct, field[0]).size] for field in struct._fields_}
    assert fields == expected["fields"]
    assert ctypes.sizeof(struct) == expected["size"]


def test_every_function_of_the_header_is_declared():
    declared = dict(re.findall(r"^(?:const )?\w+ \*?(moor_\w+)\(([^;]*)\);", header(), flags=re.M))
    assert set(declared) == set(_abi.FUNCTIONS)
    for name, arguments in declared.items():
        count = 0 if arguments.strip() == "void" else len(arguments.split(","))
        assert len(_abi.FUNCTIONS[name][1]) == count, name


WIDTHS = {
    "uint64_t": 8,
    "int64_t": 8,
    "uint32_t": 4,
    "int32_t": 4,
    "uint8_t": 1,
    "moor_store": 8,
    "moor_reservation": 8,
    "moor_snapshot": 8,
    "moor_registration": 8,
    "moor_queue": 8,
    "moor_job": 8,
}


def test_arguments_have_the_width_of_the_header():
    for name, arguments in re.findall(r"^(?:const )?\w+ \*?(moor_\w+)\(([^;]*)\);", header(), flags=re.M):
        for text, declared in zip(arguments.split(","), _abi.FUNCTIONS[name][1]):
            kind = text.replace("const", "").split()[0]
            width = 8 if "*" in text else WIDTHS[kind]
            assert ctypes.sizeof(declared) == width, f"{name}: {text.strip()}"


def test_statuses_are_those_of_the_header():
    defined = {name: int(value) for name, value in re.findall(r"#define (MOOR_ERR_\w+) \((-\d+)\)", header())}
    assert {"MOOR_OK": 0, **defined} == _abi.STATUS


def test_constants_are_those_of_the_header(compiled):
    numbers = compiled["numbers"]
    pairs = {
        "MOOR_ABI_LEVEL": _abi.ABI_LEVEL,
        "MOOR_MAX_KEY": _abi.MAX_KEY,
        "MOOR_MAX_META": _abi.MAX_META,
        "MOOR_MAX_DIMS": _abi.MAX_DIMS,
        "MOOR_STORED": _abi.STORED,
        "MOOR_KEPT": _abi.KEPT,
        "MOOR_ADOPTED": _abi.ADOPTED,
        "MOOR_CLOSE_WAIT": _abi.CLOSE_WAIT,
        "MOOR_PUT_AS_BYTES": _abi.PUT_AS_BYTES,
        "MOOR_BUFFER_READ_ONLY": _abi.BUFFER_READ_ONLY,
        "MOOR_BUFFER_TENSOR": _abi.BUFFER_TENSOR,
        "MOOR_BUFFER_COPIED": _abi.BUFFER_COPIED,
        "MOOR_DESC_TENSOR": _abi.DESC_TENSOR,
        "MOOR_DESC_PINNED": _abi.DESC_PINNED,
        "MOOR_DESC_ADOPTED": _abi.DESC_ADOPTED,
        "MOOR_DESC_ON_DISK": _abi.DESC_ON_DISK,
        "MOOR_IN_PROGRESS": _abi.IN_PROGRESS,
        "MOOR_COMPLETION_LAST": _abi.COMPLETION_LAST,
        "MOOR_JOB_GET": _abi.JOB_GET,
        "MOOR_JOB_GET_INTO": _abi.JOB_GET_INTO,
        "MOOR_JOB_PUT": _abi.JOB_PUT,
        "MOOR_JOB_PREFETCH": _abi.JOB_PREFETCH,
        "MOOR_JOB_EXISTS": _abi.JOB_EXISTS,
        "MOOR_JOB_REMOVE": _abi.JOB_REMOVE,
        "MOOR_JOB_PERSIST": _abi.JOB_PERSIST,
        "MOOR_REGISTER_LOCK": _abi.REGISTER_LOCK,
        "MOOR_REGISTERED_STORE": _abi.REGISTERED_STORE,
        "MOOR_REGISTERED_LOCKED": _abi.REGISTERED_LOCKED,
        "MOOR_DEVICE_NAME": _abi.DEVICE_NAME,
        "MOOR_BORROW_UNNAMED": _abi.BORROW_UNNAMED,
        "MOOR_BORROW_RESERVED": _abi.BORROW_RESERVED,
        "MOOR_BORROW_CHILD": _abi.BORROW_CHILD,
    }
    for prefix, choices in {
        "MOOR_MODE_": _abi.MODES,
        "MOOR_IF_EXISTS_": _abi.IF_EXISTS,
        "MOOR_EVICT_": _abi.EVICTION,
        "MOOR_HUGE_": _abi.HUGEPAGES,
        "MOOR_PREFAULT_": _abi.PREFAULT,
        "MOOR_DURABLE_": _abi.DURABILITY,
        "MOOR_VERIFY_": _abi.VERIFY,
        "MOOR_PROMOTE_": _abi.PROMOTE,
        "MOOR_WRITE_": _abi.WRITE,
        "MOOR_READ_": _abi.READ_PATH,
        "MOOR_TIMED_": {name: number for number, name in enumerate(timings.KINDS)},
        "MOOR_OUTCOME_": {name: number for number, name in enumerate(timings.CLASSES)},
        "MOOR_PATH_": {name: number for number, name in enumerate(timings.PATHS)},
        "MOOR_REGISTERING_": _abi.REGISTERING,
        "MOOR_MISSING_": _abi.MISSING,
        "MOOR_LINK_": _abi.LINKS,
    }.items():
        in_header = {name for name in numbers if name.startswith(prefix)}
        named = {prefix + choice.upper().replace(" ", "_"): number for choice, number in choices.items()}
        assert in_header == set(named)
        pairs.update(named)
    assert {name: numbers[name] for name in pairs} == pairs


def test_the_library_knows_its_statuses_by_the_same_names():
    library = _lib.load()
    for name, number in _abi.STATUS.items():
        assert library.c.moor_status_name(number).decode() == name
    assert library.c.moor_status_name(-999).decode() == "MOOR_ERR_UNKNOWN"


def test_every_status_has_an_exception_of_its_own():
    assert {kind.status for kind in errors.BY_STATUS.values()} == set(_abi.STATUS.values()) - {0}
    for name, number in _abi.STATUS.items():
        if number:
            error = errors.error_for(number, "text")
            assert isinstance(error, moorage.MoorageError), name
            assert isinstance(error, errors.BY_STATUS[number]), name
            assert str(error)
    assert type(errors.error_for(-999, "text")) is moorage.MoorageError


def test_dtypes_are_those_of_the_header():
    codes = {int(code) for _, code in re.findall(r"(kDL\w+) = (\d+)U", header())}
    assert {code for code, _, _ in _dtypes.TRIPLES.values()} <= codes
    assert len(_dtypes.NAMES) == len(_dtypes.TRIPLES)


def test_a_library_of_another_level_is_refused(monkeypatch):
    monkeypatch.setattr(_abi, "ABI_LEVEL", 99)
    with pytest.raises(ImportError, match="ABI level"):
        _lib.Library(_lib.library_path())


def test_a_library_that_is_not_there_names_the_variable():
    with pytest.raises(ImportError, match="MOORAGE_LIBRARY"):
        _lib.Library("/nowhere/libmoorage.so")
