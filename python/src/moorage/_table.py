"""What the command line shows: tables, by rich when it is installed (moorage[cli]) and as plain text otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_STYLES = {"missed": "red", "met": "green", "problem": "red", "note": "yellow", "ok": "green"}


@dataclass
class Table:
    """A row whose last cell is a verdict has its colour, where there are colours."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    left: int = 1
    """So many columns are set flush left."""


def show(shown: list[Table]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table as Rich
    except ImportError:
        for table in shown:
            print(plain(table))
        return
    console = Console()
    if not console.is_terminal:
        console.width = 200  # into a file or a pipe: nothing is broken off
    for table in shown:
        rich = Rich(title=table.title, title_justify="left", show_header=any(table.columns))
        for i, column in enumerate(table.columns):
            rich.add_column(column, justify="left" if i < table.left else "right", overflow="fold")
        for row in table.rows:
            rich.add_row(*row, style=_STYLES.get(row[-1]))
        console.print(rich)


def plain(table: Table) -> str:
    rows = [table.columns, *table.rows] if any(table.columns) else table.rows
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    lines = [table.title]
    for row in rows:
        cells = [cell.ljust(w) if i < table.left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def size(n: int) -> str:
    """Whole units, rounded down."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n} {unit}"
        n //= 1024
    return f"{n} GiB"
