"""A control group with a limit of memory, where this process may make one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.doctor.system import System, group_folders


@contextlib.contextmanager
def limited(nbytes: int) -> Iterator[Path]:
    """The file that takes the number of a process into the group. Skips the test where there can be none."""
    probed = []
    for version, folder in group_folders(System()):
        group = Path(folder) / f"moorage-test-{uuid.uuid4().hex[:8]}"
        limit = group / ("memory.max" if version == 2 else "memory.limit_in_bytes")
        try:
            group.mkdir()
        except OSError as error:
            probed.append(f"{group.parent}: {error.strerror}")
            continue
        try:
            limit.write_text(str(nbytes))
            with contextlib.suppress(OSError):  # no swapping out, where there is swap
                (group / "memory.swap.max").write_text("0")
        except OSError as error:
            probed.append(f"{limit}: {error.strerror}")
            group.rmdir()
            continue
        try:
            yield group / "cgroup.procs"
        finally:
            os.rmdir(group)
        return
    pytest.skip(f"probed for a control group of memory that can be made: {'; '.join(probed) or 'none is mounted'}")
