# SPDX-License-Identifier: Apache-2.0
"""Compares the header with everything that repeats it: complete.py HEADER MAP OFFSETS_JSON [LIBRARY].

Functions: header = version script = what the library shows. Structs, fields and constants: header = offsets.c.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def header_functions(header: str) -> set[str]:
    # "int32_t moor_put(", "const char *moor_version(", and not the pointer type "(*moor_progress)(".
    return set(re.findall(r"^(?:const )?\w+ \*?(moor_\w+)\(", header, flags=re.M))


def map_levels(text: str) -> dict[str, set[str]]:
    levels = {}
    for name, body in re.findall(r"(\w+)\s*\{(.*?)\}", without_comments(text), flags=re.S):
        shown = re.search(r"global:(.*?)(?:local:|$)", body, flags=re.S)
        levels[name] = set(re.findall(r"(\w+);", shown.group(1))) if shown else set()
    return levels


def header_structs(header: str) -> dict[str, list[str]]:
    found = {}
    for body, name in re.findall(r"typedef struct \w*\s*\{(.*?)\}\s*(\w+);", header, flags=re.S):
        fields = []
        for declaration in filter(str.strip, body.split(";")):
            pointer = re.search(r"\(\*(\w+)\)\(", declaration)
            last = pointer.group(1) if pointer else re.search(r"(\w+)(?:\[\w+\])?\s*$", declaration).group(1)
            fields.append(last)
        found[name] = fields
    return found


def shown_by(library: str) -> set[str]:
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in lines.splitlines()}
    return {name.split("@")[0] for name in names if not name.startswith("MOORAGE_")}


def main(header_path: str, map_path: str, json_path: str, library: str | None = None) -> int:
    header = without_comments(Path(header_path).read_text())
    offsets = json.loads(Path(json_path).read_text())
    levels = map_levels(Path(map_path).read_text())
    private = levels.pop("MOORAGE_PRIVATE", set())
    public = set().union(*levels.values())
    faults = []

    def same(what: str, a: set[str], b: set[str]) -> None:
        if a != b:
            faults.append(f"{what}: only in the first {sorted(a - b)}, only in the second {sorted(b - a)}")

    functions = header_functions(header)
    same("functions of header and version script", functions, public)
    if library:
        same("version script and library", public | private, shown_by(library))

    structs = header_structs(header)
    printed = offsets["structs"]
    same("structs of header and offsets.c", set(structs), set(printed))
    for name in set(structs) & set(printed):
        same(f"fields of {name} in header and offsets.c", set(structs[name]), set(printed[name]["fields"]))
        for field, (offset, _) in printed[name]["fields"].items():
            size = printed[name]["size"]
            if offset >= size:
                faults.append(f"{name}.{field} lies at {offset} of {size} bytes")

    constants = set(re.findall(r"#define (MOOR_\w+)\s+\S", header)) - {"MOOR_ALL", "MOOR_LIST_END"}
    same("constants of header and offsets.c", constants, set(offsets["numbers"]))
    errors = {v: k for k, v in offsets["numbers"].items() if k.startswith("MOOR_ERR_")}
    if sorted(errors) != list(range(-len(errors), 0)):
        faults.append(f"status numbers have holes or repeat: {sorted(errors)}")

    print("\n".join(faults) or f"{len(functions)} functions, {len(structs)} structs, {len(constants)} constants agree")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
