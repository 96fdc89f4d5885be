"""What else can be written: one line for a run, pictures, a bundle."""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Sequence
from typing import Any

from .records import OpRecord
from .result import HEADLINES

_FACTS = ("began", "model", "users", "seconds", "scale", "backend", "seed", "trials", "device", "cold", "schedule")


def add_line(path: str, content: dict[str, Any]) -> None:
    """One row; the names of the columns above the first."""
    options = content["options"]
    one = content["trials"][content["summary_of_trial"]]
    facts = (
        content["began"], content["model"]["name"], options["num_users"], options["duration"], options["scale"],
        one["facts"]["path"]["name"], content["seed"], len(content["trials"]), content["environment"]["device"],
        one["facts"].get("cold", {}).get("verdict", ""), content["schedule"]["sha256"],
    )  # fmt: skip
    medians = [content["headlines"][name] for name in HEADLINES]
    fresh = not os.path.exists(path)
    with open(path, "a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow([*_FACTS, *HEADLINES])
        writer.writerow([*facts, *("" if one is None else one["median"] for one in medians)])


def bundle(path: str, files: Sequence[str]) -> None:
    """All files of a result, without their folders, so that somebody else can verify it."""
    with tarfile.open(path, "w:gz") as tar:
        for name in files:
            tar.add(name, os.path.basename(name))


def draw(path: str, ops: Sequence[OpRecord], content: dict[str, Any]) -> None:
    """CDFs of total, device and host; host on device by size; bytes by second."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot

    figure, (cdf, sizes, series) = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    reads = [op for op in ops if op.tier == "storage" and op.kind == "read" and not op.error]
    for part in ("total", "device", "host"):
        values = np.sort([getattr(op, part) / 1e6 for op in reads])
        if len(values):
            cdf.plot(values, np.arange(1, len(values) + 1) / len(values), label=part)
    cdf.set(xscale="log", xlabel="ms, whole objects", ylabel="share of storage reads", title="latency")
    _bars(sizes, content)
    figures = content["trials"][content["summary_of_trial"]]["figures"]
    for kind in ("read", "write"):
        series.plot([one[f"{kind}_bytes"] / (1 << 30) for one in figures["series"]], "o-", label=kind)
    series.set(xlabel="second of the window", ylabel="GiB/s", title="storage, by second")
    for panel in (cdf, sizes, series):
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    figure.suptitle(f"{content['environment']['device']}; {content['note']}", fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(panel: Any, content: dict[str, Any]) -> None:
    found = content["trials"][content["summary_of_trial"]]["figures"]["sizes"]
    names = [f"{one['kind']}\n{one['class']}" for one in found]
    device = [one["device"]["mean"] for one in found]
    panel.bar(names, device, label="device")
    panel.bar(names, [one["host"]["mean"] for one in found], bottom=device, label="host")
    panel.set(ylabel="mean ms", title="device and host, by size")
    panel.tick_params(axis="x", labelsize="small")
