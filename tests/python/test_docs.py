"""The documents are true: their examples run, their links lead somewhere, and docs/errors.md is complete."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import moorage
from moorage import errors

REPO = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*REPO.glob("*.md"), *REPO.glob("docs/*.md"), REPO / "python/README.md"])
HAS_TORCH = importlib.util.find_spec("torch") is not None


class Block(NamedTuple):
    document: Path
    line: int
    code: str

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(REPO)}:{self.line}"

    @property
    def needs_torch(self) -> bool:
        return re.search(r"^\s*(import|from)\b.*\btorch\b", self.code, re.MULTILINE) is not None

    def run(self, namespace: dict[str, Any]) -> None:
        # As many lines down as in the document, for the traceback.
        exec(compile("\n" * (self.line - 1) + self.code, self.document, "exec"), namespace)


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(document, text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block runs after those before it in its document, which must not need torch for it unless it does itself."""
    if block.needs_torch and not HAS_TORCH:
        pytest.skip(f"{block.name} needs torch, which was not found")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for earlier in blocks(block.document):
        if earlier.line <= block.line and (HAS_TORCH or not earlier.needs_torch):
            earlier.run(namespace)
    namespace.clear()


def test_readme_has_an_example_of_torch() -> None:
    assert any(block.needs_torch for block in blocks(REPO / "README.md"))


# ---- docstrings ----


def modules() -> Iterator[Any]:
    yield moorage
    for info in pkgutil.iter_modules(moorage.__path__):
        if info.name in ("torch", "numpy") and importlib.util.find_spec(info.name) is None:
            continue
        # The library lies in the package, where it looks like a module of Python.
        if not info.name.startswith(("__", "lib")):
            yield importlib.import_module(f"moorage.{info.name}")


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_doctests(module: Any) -> None:
    pytest.importorskip("numpy")
    assert doctest.testmod(module).failed == 0


def literal_examples(docstring: str) -> list[str]:
    """Indented paragraphs that are code: preceded by an empty line, and Python with a call in it."""
    found = []
    for match in re.finditer(r"(?:\A|\n\n)((?: {4}.*\n|\n(?= {4}))+)", inspect.cleandoc(docstring) + "\n"):
        code = textwrap.dedent(match[1])
        try:
            tree = ast.parse(code)
        except SyntaxError:
            continue
        if any(isinstance(node, ast.Call) for node in ast.walk(tree)):
            found.append(code)
    return found


def public_docstrings() -> Iterator[tuple[str, str]]:
    yield "moorage", moorage.__doc__ or ""
    for name in ("Store", "Buffer"):
        kind = getattr(moorage, name)
        yield name, kind.__doc__
        for member, value in vars(kind).items():
            if not member.startswith("_") and getattr(value, "__doc__", None):
                yield f"{name}.{member}", value.__doc__


EXAMPLES = [(name, code) for name, text in public_docstrings() for code in literal_examples(text)]


def test_docstring_examples_are_found() -> None:
    assert {"moorage", "Buffer", "Store.empty", "Store.put_parts"} <= {name for name, _ in EXAMPLES}


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_docstring_example(name: str, code: str) -> None:
    """What an example takes as given is made here."""
    torch = pytest.importorskip("torch")
    np = pytest.importorskip("numpy")
    header, payload = b"sixteen-byte-hdr", np.arange(8, dtype=np.float16)
    namespace: dict[str, Any] = {"moorage": moorage, "torch": torch, "np": np, "header": header, "payload": payload}
    namespace["model_output"] = lambda out: out.fill_(1)
    namespace["Model"] = lambda: torch.nn.Linear(2, 2)
    namespace["model"] = model = namespace["Model"]()
    namespace["optimizer"] = torch.optim.SGD(model.parameters())
    with moorage.Store("64MiB") as namespace["store"]:
        namespace["store"].put_parts("block", header, payload)
        namespace["store"].put_tensor("weights", payload)
        namespace["keys"] = ["block", "weights"]
        namespace["store"].put_tensors({f"model/{name}": t for name, t in model.state_dict().items()})
        exec(compile(code, name, "exec"), namespace)
        namespace.clear()


# ---- errors ----


class Row(NamedTuple):
    status: str
    number: int
    exceptions: list[str]
    cause: str
    remedy: str


def error_rows() -> list[Row]:
    rows = []
    for line in (REPO / "docs/errors.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`MOOR_ERR_") and len(cells) == 5:
            rows.append(Row(cells[0].strip("`"), int(cells[1]), re.findall(r"`(\w+)`", cells[2]), cells[3], cells[4]))
    return rows


def test_errors_document_has_the_statuses_of_the_header() -> None:
    header = (REPO / "include/moorage.h").read_text(encoding="utf-8")
    declared = {name: int(number) for name, number in re.findall(r"#define (MOOR_ERR_\w+) \((-\d+)\)", header)}
    assert declared
    assert {row.status: row.number for row in error_rows()} == declared


def test_errors_document_has_the_classes_of_the_package() -> None:
    classes = {row.number: row.exceptions[0] for row in error_rows()}
    assert classes == {status: kind.__name__ for status, kind in errors.BY_STATUS.items()}
    text = (REPO / "docs/errors.md").read_text(encoding="utf-8")
    assert [name for name in errors.__all__ if f"`{name}`" not in text and f"`moorage.{name}`" not in text] == []


@pytest.mark.parametrize("row", error_rows(), ids=lambda row: row.status)
def test_errors_document_names_the_class_of_python(row: Row) -> None:
    kind = errors.BY_STATUS[row.number]
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    assert builtin.__name__ in row.exceptions
    assert row.cause and row.remedy


def test_errors_document_has_the_lines_before_death() -> None:
    text = (REPO / "docs/errors.md").read_text(encoding="utf-8").partition("## When the process ends")[2]
    documented = re.findall(r"^\| `(.*?)(?: of key .*?)?` \|", text, re.MULTILINE)
    source = (REPO / "capi/fault.c").read_text(encoding="utf-8")
    printed = re.findall(r'"moorage: ([^";\\]*)', source)
    assert sorted(documented) == sorted(printed)


# ---- the rest ----


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPO)))
def test_links(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_figures_go_into_their_place_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("readme_table", REPO / "scripts/readme_table.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    result = {"case": "get_array", "size": 4096, "floor": "a floor", "timed": {"ratio": 1.234}}
    facts = {"cpu": "a CPU", "cores": 2, "memory": 4 << 30, "kernel": "6", "python": "3", "load": 0, "second core": 1}
    figures = {"results": [result], "machine": facts}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(script, "README", tmp_path / "README.md")
    script.README.write_text(readme, encoding="utf-8")
    for _ in range(2):  # the second time over the first
        script.main(tmp_path / "figures.json")
    made = script.README.read_text(encoding="utf-8")
    begin, end = script.marks("measured")
    assert "| `get_array` | a floor | 1.23 |" in made and made.count("a CPU, 2 cores, 4 GiB") == 1
    assert made.partition(begin)[0] == readme.partition(begin)[0]
    assert made.partition(end)[2] == readme.partition(end)[2]  # without peers, their table stays
    results = [
        {"row": row, "work": work, "size": 4096, "timed": {"mean": 1500.0}, "times": times}
        for row, work, times in (("Moorage, view", "hand-over", 1.0), ("dict of tensors", "hand-over", 0.125))
    ]
    results += [
        {"row": row, "work": "first read", "size": 64 << 20, "timed": {"mean": 9e6}, "times": times}
        for row, times in (
            ('Moorage, view, prefault="open"', 1.0), ("Moorage, view, no prefault", 1.4), ("safetensors", 1.5)
        )
    ]  # fmt: skip
    peers = {"results": results, "missing": {"Redis": "it is out"}}
    (tmp_path / "figures.json").write_text(json.dumps({**figures, "peers": peers}))
    script.main(tmp_path / "figures.json")
    both = script.README.read_text(encoding="utf-8").partition("<!-- peers:begin -->")[2]
    assert (
        "| **Moorage** (view) |  |  |  | 9 ms | 1.5 us |" in both and "| a dict of tensors |  |  |  |  | 0.12 |" in both
    )
    assert "| safetensors, file open |  |  |  | 1.50 |" in both and "without it, 1.40 times as long" in both
    assert "Not measured: Redis (it is out)." in both and both.count("a CPU, 2 cores, 4 GiB") == 1
