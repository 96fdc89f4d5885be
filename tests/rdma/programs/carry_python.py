"""carry_python.py FOLDER SITE: puts this Python into FOLDER, small: the interpreter, the libraries that it is linked
with, and what of the standard library moorage (the package in SITE) and the programs beside this file import. To be run
there with PYTHONHOME=FOLDER and LD_LIBRARY_PATH=FOLDER/lib.
"""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def modules(site: str) -> list[Path]:
    """The files of the standard library that are needed, whole packages for those that are."""
    sys.path.insert(0, site)
    import moorage.__main__
    import moorage.bench.register.command
    import moorage.bench.register.verbs
    import moorage.doctor.command
    import moorage.doctor.probe
    import moorage.records
    import moorage.registration

    assert moorage.__main__
    for name in ("fcntl", "logging", "mmap", "multiprocessing.context", "random", "resource", "statistics"):
        __import__(name)  # what is imported only when it is needed
    found = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    for file in list(found):
        if file.name == "__init__.py":
            found.update(file.parent.glob("*.py"))
    return sorted(found)


def copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, to)


def compiled(source: Path, to: Path) -> None:
    """With the byte code beside it, for compiling takes long on an emulated processor; and it is to be taken unchecked
    (PEP 552), for times of files are lost on the way.
    """
    copy(source, to)
    name = f"{to.stem}.{sys.implementation.cache_tag}.pyc"
    ready, code = source.parent / "__pycache__" / name, to.parent / "__pycache__" / name
    if not ready.exists():
        py_compile.compile(str(to), str(code))
        ready = code
    content = ready.read_bytes()
    code.parent.mkdir(exist_ok=True)
    code.write_bytes(content[:4] + (1).to_bytes(4, "little") + bytes(8) + content[16:])


def libraries(program: Path, to: Path) -> None:
    """What a program is linked with."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for path in re.findall(r"=> (/\S+)", told):
        if not (to / Path(path).name).exists():
            copy(Path(path), to / Path(path).name)


def main(folder: Path, site: str) -> None:
    interpreter = Path(os.path.realpath(sys.executable))
    copy(interpreter, folder / "bin" / "python3")
    libraries(interpreter, folder / "lib")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home, platform = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))
    for file in modules(site):
        for base in (home, platform):
            if file.is_relative_to(base) and "site-packages" not in file.parts and "dist-packages" not in file.parts:
                to = folder / "lib" / version / file.relative_to(base)
                (compiled if file.suffix == ".py" else copy)(file, to)
                if file.suffix == ".so":
                    libraries(file, folder / "lib")
                break
    compiled(home / "os.py", folder / "lib" / version / "os.py")  # by this file Python finds the rest
    for file in Path(site, "moorage").rglob("*.py"):
        compiled(file, folder / "site" / file.relative_to(site))


main(Path(sys.argv[1]), sys.argv[2])
