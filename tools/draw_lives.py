"""Draw the lives of tasks and sessions, docs/drawings/*.svg, from the tables of transitions in the domain.

Usage:
    python tools/draw_lives.py            write the drawings
    python tools/draw_lives.py --check    exit 1 if a committed drawing is not current

What is drawn comes from the tables, where it stands is said here, by hand. A group is a frame around statuses
that have a transition in common: it is drawn once, from the frame. Statuses or transitions of the tables that
have no place here, and places that no table knows of, are errors.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ripieno.domain.statuses import SESSION_TRANSITIONS, TASK_TRANSITIONS, SessionStatus, TaskStatus

ROOT = Path(__file__).resolve().parent.parent
DRAWINGS = ROOT / "docs" / "drawings"

BOX_WIDTH, BOX_HEIGHT = 118, 36

#: Who -> who follows -> in which words.
Table = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Frame:
    """A group of statuses: its corners (left, top, right, bottom), and what it is called in the drawing."""

    members: frozenset[str]
    corners: tuple[int, int, int, int]
    name: str = ""


@dataclass(frozen=True)
class Arrow:
    """Where a transition is drawn: the path of its line in SVG's words, and the middle of its label."""

    path: str
    label: tuple[int, int]


@dataclass(frozen=True)
class Life:
    """One drawing: the table that it shows, and where everything stands."""

    title: str
    size: tuple[int, int]
    table: Table
    final: frozenset[str]
    boxes: Mapping[str, tuple[int, int]]
    frames: Mapping[str, Frame]
    arrows: Mapping[tuple[str, str], Arrow]


def _of_tasks() -> Table:
    return {
        before.name: {after.name: words for after, words in following.items()}
        for before, following in TASK_TRANSITIONS.items()
    }


def _of_sessions() -> Table:
    """Steps to the status that a session has already change nothing, and are not drawn."""
    return {
        before.name: {after.name: step.name.lower() for step, after in steps.items() if after is not before}
        for before, steps in SESSION_TRANSITIONS.items()
    }


def _names(*statuses: IntEnum) -> frozenset[str]:
    return frozenset(status.name for status in statuses)


TASK = Life(
    title="The life of a task",
    size=(920, 420),
    table=_of_tasks(),
    final=_names(*(status for status in TaskStatus if status.final)),
    boxes={
        "SUBMITTED": (100, 210),
        "DISPATCHED": (345, 210),
        "PROCESSING": (545, 210),
        "COMPLETED": (820, 210),
        "ERROR": (820, 70),
        "TIMEOUT": (820, 120),
        "CANCELLING": (445, 340),
        "CANCELLED": (820, 340),
    },
    frames={
        "HELD": Frame(_names(TaskStatus.DISPATCHED, TaskStatus.PROCESSING), (270, 165, 620, 245), "with an agent"),
        "FAILED": Frame(_names(TaskStatus.ERROR, TaskStatus.TIMEOUT), (745, 30, 895, 148), "failed"),
    },
    arrows={
        ("SUBMITTED", "DISPATCHED"): Arrow("M159 210 H286", (213, 200)),
        ("SUBMITTED", "ERROR"): Arrow("M110 192 C130 100 360 70 761 70", (430, 72)),
        ("SUBMITTED", "TIMEOUT"): Arrow("M120 192 C170 128 430 122 761 126", (285, 132)),
        ("SUBMITTED", "CANCELLED"): Arrow("M90 228 C90 420 400 400 780 400 Q820 400 820 358", (400, 392)),
        ("HELD", "SUBMITTED"): Arrow("M330 245 C310 300 150 300 115 228", (215, 305)),
        ("DISPATCHED", "PROCESSING"): Arrow("M404 210 H486", (445, 200)),
        ("HELD", "COMPLETED"): Arrow("M620 210 H761", (690, 202)),
        ("HELD", "FAILED"): Arrow("M500 165 C540 105 660 100 745 100", (655, 138)),
        ("HELD", "CANCELLING"): Arrow("M445 245 V322", (550, 272)),
        ("CANCELLING", "TIMEOUT"): Arrow("M504 332 C700 325 690 170 761 132", (750, 285)),
        ("CANCELLING", "CANCELLED"): Arrow("M504 340 H761", (632, 358)),
        ("FAILED", "SUBMITTED"): Arrow("M745 42 C400 10 85 30 85 192", (330, 24)),
    },
)

SESSION = Life(
    title="The life of a session",
    size=(920, 330),
    table=_of_sessions(),
    final=frozenset({"DELETED"}),
    boxes={
        "RUNNING": (125, 105),
        "PAUSED": (125, 225),
        "CLOSED": (390, 105),
        "CANCELLED": (390, 225),
        "PURGED": (600, 165),
        "DELETED": (835, 165),
    },
    frames={
        "OPEN": Frame(_names(SessionStatus.RUNNING, SessionStatus.PAUSED), (45, 55, 205, 270), "takes tasks"),
        "THERE": Frame(
            frozenset(status.name for status in SessionStatus if status is not SessionStatus.DELETED),
            (20, 15, 690, 300),
        ),
    },
    arrows={
        ("RUNNING", "PAUSED"): Arrow("M105 123 V207", (83, 170)),
        ("PAUSED", "RUNNING"): Arrow("M145 207 V123", (172, 170)),
        ("OPEN", "CLOSED"): Arrow("M205 105 H331", (268, 97)),
        ("OPEN", "CANCELLED"): Arrow("M205 225 H331", (268, 217)),
        ("CLOSED", "CANCELLED"): Arrow("M390 123 V207", (418, 170)),
        ("CLOSED", "PURGED"): Arrow("M449 105 C520 105 600 105 600 147", (545, 97)),
        ("CANCELLED", "PURGED"): Arrow("M449 225 C520 225 600 225 600 183", (545, 242)),
        ("THERE", "DELETED"): Arrow("M690 165 H776", (733, 157)),
    },
)

LIVES = {"life-of-a-task": TASK, "life-of-a-session": SESSION}


def shown(life: Life) -> dict[tuple[str, str], str]:
    """The arrows of a drawing with their words: a transition, or one that all of a group have in common.

    Raises:
        ValueError: the table has a transition that no arrow shows, or an arrow shows none of the table.
    """
    left = {(before, after): words for before, following in life.table.items() for after, words in following.items()}
    found: dict[tuple[str, str], str] = {}
    for ends in life.arrows:
        befores, afters = (life.frames[end].members if end in life.frames else {end} for end in ends)
        meant = {(before, after) for before in befores for after in afters}
        words = {left.pop(pair, None) for pair in meant}
        if len(words) != 1 or None in words:
            raise ValueError(f"{life.title}: the arrow {ends} stands for {sorted(meant)}, which say {words}")
        found[ends] = words.pop() or ""
    if left or life.table.keys() != life.boxes.keys():
        raise ValueError(f"{life.title}: not drawn: {sorted(left)}, {sorted(life.table.keys() ^ life.boxes.keys())}")
    return found


def draw(life: Life) -> str:
    """The drawing as an SVG file; errors as in ``shown``."""
    width, height = life.size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{life.title}</title>",
        _STYLE,
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
    ]
    for frame in sorted(life.frames.values(), key=lambda frame: -len(frame.members)):
        left, top, right, bottom = frame.corners
        lines.append(
            f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10"/>'
        )
        if frame.name:
            lines.append(f'<text class="frame" x="{left + 10}" y="{top + 16}">{frame.name}</text>')
    for ends, words in shown(life).items():
        arrow = life.arrows[ends]
        x, y = arrow.label
        lines.append(f'<path class="arrow" d="{arrow.path}" marker-end="url(#tip)"/>')
        lines.append(f'<text class="label" x="{x}" y="{y}">{html.escape(words)}</text>')
    for name, (x, y) in life.boxes.items():
        kind = "final" if name in life.final else "passing"
        corner = f'x="{x - BOX_WIDTH // 2}" y="{y - BOX_HEIGHT // 2}"'
        lines.append(f'<rect class="{kind}" {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>')
        lines.append(f'<text class="status" x="{x}" y="{y + 5}">{name}</text>')
    return "\n".join([*lines, "</svg>\n"])


_STYLE = """<style>
.paper { fill: #fff } .frame { fill: none; stroke: #999; stroke-dasharray: 5 4 }
text { font: 13px sans-serif; fill: #222 } text.frame { stroke: none; fill: #777; font-style: italic }
.passing { fill: #e8f0fb; stroke: #47699c } .final { fill: #ececec; stroke: #555; stroke-width: 2 }
.status { font: bold 13px sans-serif; text-anchor: middle }
.label { text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 4 }
.arrow { fill: none; stroke: #444; stroke-width: 1.4 }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#444"/></marker></defs>"""


def main() -> int:
    """Write the drawings, or compare them."""
    stale = []
    for name, life in LIVES.items():
        path, drawn = DRAWINGS / f"{name}.svg", draw(life)
        if "--check" not in sys.argv[1:]:
            DRAWINGS.mkdir(exist_ok=True)
            path.write_text(drawn, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != drawn:
            stale.append(path.relative_to(ROOT))
    for path in stale:
        print(f"{path} is not current: run `make map` and commit it", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
