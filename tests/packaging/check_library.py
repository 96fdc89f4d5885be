"""check_library.py LIBRARY HEADER MAP: is the library fit to be shipped?

* header, version script and dynamic symbol table name the same functions,
* no symbol asks for a glibc newer than 2.17,
* nothing is needed but libc and the two libraries that later became part of it,
* the soname is the one that programs are linked against.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

GLIBC_FLOOR = (2, 17)
ALLOWED_LIBRARIES = {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
SONAME = "libmoorage.so.1"

#: Node of the version script for what the Python package needs and no header declares.
PRIVATE_NODE = "MOORAGE_PRIVATE"


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def declared(header: Path) -> set[str]:
    """The functions that the header declares."""
    return set(re.findall(r"^[a-zA-Z_][^;{}()#]*?\b(moor_\w+)\s*\(", without_comments(header.read_text()), flags=re.M))


def scripted(version_script: Path) -> dict[str, set[str]]:
    """The symbols of each node of the version script."""
    nodes = {}
    for node, body in re.findall(r"(\w+)\s*\{(.*?)\}", without_comments(version_script.read_text()), flags=re.S):
        exported = body.partition("global:")[2].partition("local:")[0]
        nodes[node] = set(re.findall(r"\w+", exported))
    return nodes


def dynamic_symbols(library: Path) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Exported name -> version; and imported names with their versions, of which one may have several."""
    exported, imported = {}, set()
    table = subprocess.run(["objdump", "-T", str(library)], check=True, capture_output=True, text=True).stdout
    for line in table.splitlines():
        match = re.match(r"[0-9a-f]{8,} (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\(?([\w.]+)\)?\s+)?(?:\.hidden )?(\S+)$", line)
        if match:
            flags, section, version, name = match.groups()
            if section == "*UND*":
                imported.add((name, version or ""))
            elif section != "*ABS*":  # the names of the version nodes themselves
                exported[name] = version or ""
    return exported, imported


def too_new(imported: set[tuple[str, str]]) -> list[str]:
    found = []
    for name, version in sorted(imported):
        number = version.removeprefix("GLIBC_")
        if version.startswith("GLIBC_") and (
            not re.fullmatch(r"[\d.]+", number) or tuple(map(int, number.split("."))) > GLIBC_FLOOR
        ):
            found.append(f"{name} asks for {version}")
    return found


def dynamic_section(library: Path, entry: str) -> set[str]:
    text = subprocess.run(["objdump", "-p", str(library)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(rf"^\s+{entry}\s+(\S+)$", text, flags=re.M))


def difference(title: str, found: set[str], wanted: set[str]) -> list[str]:
    lines = [f"{title}: {name} is missing" for name in sorted(wanted - found)]
    return lines + [f"{title}: {name} is one too many" for name in sorted(found - wanted)]


def main(library: Path, header: Path, version_script: Path) -> int:
    exported, imported = dynamic_symbols(library)
    nodes = scripted(version_script)
    private = nodes.pop(PRIVATE_NODE, set())
    public = set().union(*nodes.values())
    where = {name: node for node, names in {**nodes, PRIVATE_NODE: private}.items() for name in names}

    problems = difference("version script against header", public, declared(header))
    problems += difference("library against version script", set(exported), public | private)
    problems += [
        f"{name} is exported as {exported[name]}, the version script says {where[name]}"
        for name in sorted(set(exported) & set(where))
        if exported[name] != where[name]
    ]
    problems += [f"{name}: exported names begin with moor_" for name in exported if not name.startswith("moor_")]
    problems += too_new(imported)
    problems += [f"needs {name}" for name in sorted(dynamic_section(library, "NEEDED") - ALLOWED_LIBRARIES)]
    if dynamic_section(library, "SONAME") != {SONAME}:
        problems.append(f"the soname is {dynamic_section(library, 'SONAME')}, not {SONAME}")
    if dynamic_section(library, "RPATH") | dynamic_section(library, "RUNPATH"):
        problems.append("it has a run-time search path")
    versions = {v for _, v in imported if re.fullmatch(r"GLIBC_[\d.]+", v)}
    newest = max(versions, key=lambda v: tuple(map(int, v[6:].split("."))), default="none")
    print(f"{len(exported)} exported functions, newest glibc symbol {newest}")
    for problem in problems:
        print(f"{library.name}: {problem}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
