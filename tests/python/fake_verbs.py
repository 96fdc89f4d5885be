"""The stand-in for libibverbs (rdma/internal/ibv/testdata), as a library that programs with LD_LIBRARY_PATH load.

What it does wrong is set from outside by FAKE_VERBS="name=value ...", and from inside by its function fake_set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).resolve().parents[2] / "rdma" / "internal" / "ibv" / "testdata" / "fakeverbs.c"


def build(folder: Path) -> Path:
    """Makes folder/libibverbs.so.1 and gives the folder."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        pytest.skip("probed cc: no C compiler")
    arguments = [compiler, "-std=gnu11", "-O2", "-fPIC", "-shared", "-o", folder / "libibverbs.so.1", _SOURCE]
    header = b"#include <infiniband/verbs.h>"
    probe = subprocess.run(
        [compiler, "-xc", "-fsyntax-only", "-"], input=header, capture_output=True, check=False
    )
    own = ["-DOWN_LAYOUT"] if probe.returncode else []
    subprocess.run([*arguments, *own, "-lpthread"], check=True)
    return folder
