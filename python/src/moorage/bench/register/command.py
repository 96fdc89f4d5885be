"""What can be chosen, and the order of things."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import Any

from ... import _parse
from ...errors import MoorageError
from .. import machine, plot
from ..report import show
from ..report import size as amount
from . import ring, verbs
from .figures import Measured
from .measure import Measure
from .pinning import NoPinning, Pinner
from .show import tables, write_json, write_plot

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SIZES = (64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 16 * _MIB, 64 * _MIB, 256 * _MIB, _GIB)
_QUICK_SIZES = (64 * _KIB, _MIB, 4 * _MIB, 16 * _MIB)
_THREADS = (1, 2, 4, 8)


def main(argv: list[str]) -> int:
    """Runs it and returns an exit status."""
    options = _arguments().parse_args(argv)
    at = "" if options.device is None else f"--device {options.device}: "
    try:
        if options.plot:
            plot.check()
        with ExitStack() as last:
            if options.device is None:
                pinner: Pinner = ring.Kernel()
            else:
                pinner = last.enter_context(verbs.Device(options.device))
            sizes = [_size(text, pinner) for text in options.sizes.split(",")] if options.sizes else None
            measured = _measure(pinner, sorted(sizes or (_QUICK_SIZES if options.quick else _SIZES)), options.quick)
    except (MoorageError, plot.NoMatplotlib, NoPinning, OSError) as error:
        print(f"moorage bench register: {at if isinstance(error, NoPinning) else ''}{error}", file=sys.stderr)
        return 2
    facts = _facts(measured, pinner)
    show(tables(facts, measured))
    if options.json:
        write_json(options.json, facts, measured)
    if options.plot:
        write_plot(options.plot, measured)
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage bench register",
        description="Is registering memory cheaper than copying it? Without a network card it measures the kernel's "
        "part: pinning pages, through io_uring's registered buffers.",
    )
    parser.add_argument("--device", metavar="NAME", help="the network card to register with, by ibv_reg_mr")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds: some seconds")
    parser.add_argument("--sizes", metavar="LIST", help='for example "64KiB,1MiB,1GiB"; 1 GiB at most')
    parser.add_argument("--json", metavar="FILE", help="writes all figures")
    parser.add_argument("--plot", metavar="FILE", help="draws them, as .png, .svg or .pdf; needs moorage[bench]")
    return parser


def _size(text: str, pinner: Pinner) -> int:
    size = _parse.size(text.strip(), "--sizes")
    if size > pinner.longest:
        raise NoPinning(
            f"--sizes: {text.strip()} is more than {amount(pinner.longest)}, the most that is registered at once"
        )
    return size


def _measure(pinner: Pinner, sizes: list[int], quick: bool) -> Measured:
    measure = Measure(0.02 if quick else 0.3, pinner, _note)
    if isinstance(pinner, verbs.Device):
        measure.measured.device, measure.measured.software = pinner.name, pinner.is_software()
    measure.measured.emulated = machine.is_emulated()
    measure.sizes(sizes)
    measure.ranges((0, 10, 100, 1000) if quick else (0, 10, 100, 1000, 10_000))
    measure.threads(_THREADS)
    room = machine.available_memory() // 4
    measure.opening(min(128 * _MIB if quick else _GIB, max(room - room % (64 * _MIB), 64 * _MIB)))
    return measure.measured


def _note(text: str) -> None:
    print(f"measuring {text} ...", file=sys.stderr, flush=True)


def _facts(measured: Measured, pinner: Pinner) -> dict[str, Any]:
    facts = machine.facts()
    wanted = {name: facts[name] for name in ("cpu", "cores", "kernel", "moorage")}
    wanted["memory"] = f"{facts['memory'] / _GIB:.0f} GiB"
    wanted["load"] = f"{facts['load']:.1f}"
    wanted["pinned by"] = pinner.how
    wanted["empty call"] = f"{measured.call:.0f} ns, taken off the others"
    return wanted
