"""What a run found: one table on the terminal, the same in README.md, everything in a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import OURS, Figure, Target, at_least
from benchmarks.subjects import latency, no_op

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
#: Of a run of some subjects, or of a tenth of the load.
PARTIAL = HERE / "results" / "partial.json"
README = HERE / "README.md"
_BEGIN, _END = "<!-- the last run: written by the harness -->", "<!-- end of the last run -->"

#: How many times as fast as a peer ours should be at P1, in the same run.
_RATIOS = {"ray": at_least(7), "dramatiq": at_least(7), "dask": at_least(20), "celery": at_least(20)}


@dataclass(slots=True)
class Run:
    """What was found.

    Attributes:
        facts: Of the machine.
        quick: Whether the loads were a tenth.
        figures: In the order of the catalogue, peers' after ours.
        problems: What could not be measured, and why.
    """

    facts: Mapping[str, str]
    quick: bool
    figures: list[Figure] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, as it is kept."""
        return {
            "machine": dict(self.facts),
            "quick": self.quick,
            "figures": [figure.to_json() for figure in self.figures],
            "ratios": [ratio.to_json() for ratio in ratios(self.figures)],
            "problems": self.problems,
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours beside a peer's, larger than one where ours is better."""

    name: str
    system: str
    theirs: float
    ours: float
    unit: str
    times: float
    target: Target | None

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "name": self.name, "system": self.system, "ours": self.ours, "theirs": self.theirs, "times": self.times,
            "target": self.target.bound if self.target else None,
        }  # fmt: skip


def ratios(figures: Sequence[Figure]) -> list[Ratio]:
    """Ours over theirs, for all figures that peers have too."""
    ours = {figure.name: figure for figure in figures if figure.system == OURS}
    found = []
    for figure in figures:
        if figure.system == OURS or figure.name not in ours:
            continue
        mine, theirs = ours[figure.name].value, figure.value
        times = theirs / mine if figure.name in (latency.P50, latency.P99) else mine / theirs
        target = _RATIOS.get(figure.system.partition(" ")[0]) if figure.name == no_op.NAME else None
        found.append(Ratio(figure.name, figure.system, theirs, mine, figure.unit, times, target))
    return found


def show(run: Run, console: Console) -> None:
    """Print the table, the ratios, and what could not be measured."""
    table = Table("", "what", "figure", "range", "target", "", box=None, pad_edge=False)
    for figure in run.figures:
        if figure.system == OURS:
            table.add_row(*_cells(figure))
    console.print(table, soft_wrap=True)
    if compared := ratios(run.figures):
        table = Table("what", "peer", "theirs", "ours", "times", "target", "", box=None, pad_edge=False)
        for ratio in compared:
            table.add_row(*_ratio_cells(ratio))
        console.print()
        console.print(table, soft_wrap=True)
    for name, why in run.problems.items():
        console.print(f"{name}: {why}", style="red", markup=False)


def keep(run: Run, target: Path) -> None:
    """Write everything that was found so far as JSON."""
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(run.to_json(), indent=1) + "\n")


def publish(run: Run) -> None:
    """Write the table into README.md, between its markers."""
    before, _, rest = README.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}\n\n{_markdown(run)}\n{_END}{after}")


def _markdown(run: Run) -> str:
    lines = [f"* {name}: {value}" for name, value in run.facts.items()]
    lines += ["", "| | what | figure | range | target | | how |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join([*_cells(figure), figure.how])} |" for figure in run.figures if figure.system == OURS]
    if compared := ratios(run.figures):
        lines += ["", "| what | peer | theirs | ours | times | target | |", "|---|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(_ratio_cells(ratio))} |" for ratio in compared]
        lines += ["", "How the peers were used:", ""]
        lines += [
            f"* {figure.system}: {figure.how}"
            for figure in run.figures
            if figure.subject == "P1" and figure.system != OURS
        ]
    if run.problems:
        lines += ["", "Not measured:", ""]
        lines += [f"* {name}: {why.splitlines()[-1]}" for name, why in run.problems.items()]
    return "\n".join([*lines, ""])


def _cells(figure: Figure) -> list[str]:
    spread = (
        ""
        if figure.lowest is None or figure.highest is None
        else f"{_short(figure.lowest)} to {_short(figure.highest)}"
    )
    target = str(figure.target) if figure.target else ""
    return [figure.subject, figure.name, f"{_short(figure.value)} {figure.unit}", spread, target, figure.verdict]


def _ratio_cells(ratio: Ratio) -> list[str]:
    target = f">= {ratio.target.bound:g} x" if ratio.target else ""
    verdict = "" if ratio.target is None else ("met" if ratio.target.met_by(ratio.times) else "missed")
    theirs, ours = f"{_short(ratio.theirs)} {ratio.unit}", f"{_short(ratio.ours)} {ratio.unit}"
    return [ratio.name, ratio.system, theirs, ours, f"{ratio.times:.1f} x", target, verdict]


def _short(value: float) -> str:
    """Four digits that mean something, or all before the point."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
