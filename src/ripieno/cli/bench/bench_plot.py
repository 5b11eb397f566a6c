"""The plot of ``ripieno bench``: the rate over time, as PNG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

#: Size in inches and dots an inch: 1,000 by 500 pixels.
_SIZE = (10.0, 5.0)
_DPI = 100


def draw(found: Mapping[str, Any], target: Path) -> None:
    """Write the plot of a summary (see ``bench_report.summary``) to the file `target`.

    Raises:
        OSError: if the file cannot be written.
    """
    points = found["rate_over_time"]
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        edges = [0.0, *(point["at_s"] for point in points)]
        axes.stairs([point["rate"] for point in points], edges, fill=True, alpha=0.3)
        mean = found["tasks_per_second"]
        axes.axhline(mean, linestyle="--", linewidth=1, label=f"mean {mean:,.0f} tasks/s")
        axes.set(title=f"{found['tasks']:,} tasks", xlabel="seconds since the first call", ylabel="results a second")
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        figure.savefig(target, format="png", dpi=_DPI)
