"""check_wheel.py WHEEL [LIBRARY]: is the wheel what pip and its users expect?"""

from __future__ import annotations

import email
import platform
import re
import sys
import zipfile
from pathlib import Path

LARGEST = 6_000_000
MACHINE = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
NAME = re.compile(rf"moorage-[\d.]+-py3-none-manylinux_2_17_{MACHINE}\.whl")


def metadata_problems(text: str) -> list[str]:
    metadata = email.message_from_string(text)
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    wanted = {"License-Expression": "Apache-2.0", "Requires-Python": ">=3.9", "Name": "moorage"}
    problems = [f"{key} is {metadata[key]!r}, not {value!r}" for key, value in wanted.items() if metadata[key] != value]
    problems += [f"depends on {line}" for line in required]
    if "cli" not in metadata.get_all("Provides-Extra", []) or "bench" not in metadata.get_all("Provides-Extra", []):
        problems.append("the extras cli and bench are missing")
    return problems


def main(wheel: Path, library: Path | None = None) -> int:
    problems = []
    if not NAME.fullmatch(wheel.name):
        problems.append("the name is not that of a manylinux_2_17 wheel for every Python 3")
    if wheel.stat().st_size >= LARGEST:
        problems.append(f"{wheel.stat().st_size} bytes, the limit is {LARGEST}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        outside = [name for name in names if not name.startswith(("moorage/", f"{info}/"))]
        problems += [f"carries {name}" for name in outside if not name.startswith("moorage-")]
        wanted = ("moorage/__init__.py", "moorage/py.typed", "moorage/libmoorage.so", f"{info}/licenses/LICENSE",
                  f"{info}/licenses/THIRD-PARTY-NOTICES")  # fmt: skip
        problems += [f"{name} is missing" for name in wanted if name not in names]
        problems += [f"carries {name}" for name in names if name.endswith((".pyc", ".go", ".c"))]
        problems += metadata_problems(archive.read(f"{info}/METADATA").decode())
        if "Root-Is-Purelib: false" not in archive.read(f"{info}/WHEEL").decode():
            problems.append("it claims to be pure Python")
        if library is not None and archive.read("moorage/libmoorage.so") != library.read_bytes():
            problems.append(f"its library is not {library}")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")
    for problem in problems:
        print(f"{wheel.name}: {problem}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
