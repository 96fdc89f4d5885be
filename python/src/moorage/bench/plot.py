"""The figures as a picture."""

from __future__ import annotations

from .measured import Measured
from .report import duration, size

_PANELS = (
    ("nothing is copied", ("get_tensor view", "get_tensor cow", "get_array", "get_buffer", "adopt")),
    ("one copy", ("put_tensor", "get_into", "get_tensor copy")),
)


class NoMatplotlib(Exception):
    """The picture needs a package that is not installed."""


def check() -> None:
    """Asked before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NoMatplotlib("--plot needs matplotlib: pip install 'moorage[bench]'") from None


def write(path: str, measured: Measured) -> None:
    """p50 over size, each case with its floor dashed in the same colour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(_PANELS), figsize=(13, 7), sharex=True, sharey=True, layout="constrained")
    for panel, (title, cases) in zip(panels, _PANELS):
        for i, case in enumerate(cases):
            results = sorted(measured.of(case), key=lambda r: r.size)
            if not results:
                continue
            sizes = [r.size for r in results]
            panel.plot(sizes, [r.timed.case.p50 for r in results], f"C{i}o-", label=case)
            panel.plot(sizes, [r.timed.floor.p50 for r in results], f"C{i}--", label=f"its floor: {results[0].floor}")
        panel.set(title=title, xscale="log", yscale="log", xlabel="bytes of the object")
        panel.xaxis.set_major_formatter(lambda n, _: size(int(n)))
        panel.set_xticks([4**k << 10 for k in range(1, 11, 2)], minor=False)
        panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        panel.yaxis.set_major_formatter(lambda t, _: duration(t))
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    panels[0].set_ylabel("p50 of a call and its release")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
