"""Build hook of the package: puts libmoorage.so into the wheel, and the Go and C sources into the sdist.

The wheel needs no CPython ABI (the library is loaded by ctypes), so one wheel serves every Python 3: it is tagged
``py3-none-manylinux_2_17_<machine>``.  The library is built by ``scripts/build_library.sh``, which needs Go and a C
compiler; ``MOORAGE_PREBUILT=/path/to/libmoorage.so`` takes a finished one instead.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Where the sources lie in an sdist; in a checkout they are one level up.
SDIST_SOURCES = "go"

#: What the library is built from, below the top of a checkout. Folders that do not exist yet are passed over.
SOURCES = ("go.mod", "go.sum", "include", "capi", "core", "rdma", "internal", "scripts/build_library.sh")

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class MoorageBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before it writes a wheel or an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "sdist":
            build_data["force_include"].update(self._sdist_files())
        elif version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"
            build_data["force_include"][str(self._library())] = "moorage/libmoorage.so"

    def _sources(self) -> Path:
        packed = Path(self.root, SDIST_SOURCES)
        return packed if packed.is_dir() else Path(self.root).parent

    def _library(self) -> Path:
        prebuilt = os.environ.get("MOORAGE_PREBUILT")
        if prebuilt:
            library = Path(prebuilt).resolve()
            if not library.is_file():
                raise FileNotFoundError(f"MOORAGE_PREBUILT={prebuilt}: there is no such file")
            return library
        sources = self._sources()
        library = sources / "build" / "libmoorage.so"
        try:
            subprocess.run(["bash", str(sources / "scripts/build_library.sh"), str(library)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                f"libmoorage.so could not be built ({error}); bash, Go and a C compiler are needed, "
                "or MOORAGE_PREBUILT=/path/to/libmoorage.so"
            ) from error
        return library

    def _sdist_files(self) -> dict[str, str]:
        sources = self._sources()
        return {str(path): f"{SDIST_SOURCES}/{path.relative_to(sources)}" for path in _source_files(sources)}


def _source_files(top: Path) -> Iterator[Path]:
    """Every file that the library is built from: tests and their data stay out."""
    for name in SOURCES:
        path = top / name
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            if file.is_file() and "testdata" not in file.parts and not file.name.endswith("_test.go"):
                yield file


def _platform_tag() -> str:
    machine = MACHINES.get(platform.machine().lower())
    if machine is None or sys.platform != "linux":
        raise RuntimeError(f"Moorage is for Linux on x86-64 and arm64, not for {sys.platform} on {platform.machine()}")
    return f"manylinux_2_17_{machine}"
