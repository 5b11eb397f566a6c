"""Draw docs/map.md: the packages, and the rooms of each, from the imports.

Usage:
    python tools/draw_map.py            write the map
    python tools/draw_map.py --check    exit 1 if the committed map is not current

An arrow means "imports". In the pictures an arrow that follows from others (a -> b -> c, so a -> c)
is left out; the figures count all of them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
MAP = ROOT / "docs" / "map.md"

#: The packages whose rooms are drawn, in the order in which the map shows them.
HOUSES = ("control", "store", "agent", "worker", "client", "cli")

#: Generated, and no part of the picture.
LEFT_OUT = "ripieno.wire.protos"

Arrows = Mapping[str, Set[str]]


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, the modules it imports, and the first paragraph of its docstring."""

    name: str
    imports: frozenset[str]
    summary: str


def modules() -> dict[str, Module]:
    """All modules of the project by name; imports of names are resolved to the modules that hold them."""
    paths = {_name_of(path): path for path in sorted((SOURCE / "ripieno").rglob("*.py"))}
    paths = {name: path for name, path in paths.items() if not name.startswith(LEFT_OUT)}
    read = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        imports = {target for target in _imported(tree) if target in paths and target != name}
        summary = (ast.get_docstring(tree) or "").split("\n\n", 1)[0].replace("\n", " ")
        read[name] = Module(name, frozenset(imports), summary)
    return read


def _name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(house: str, known: Mapping[str, Module]) -> dict[str, list[Module]]:
    """The modules of a package by room; modules at its top are rooms of their own."""
    prefix = f"ripieno.{house}."
    rooms: dict[str, list[Module]] = {}
    for name, module in known.items():
        if name.startswith(prefix):
            rooms.setdefault(name.removeprefix(prefix).split(".")[0], []).append(module)
    return rooms


def arrows_among(rooms: Mapping[str, list[Module]]) -> Arrows:
    """Which rooms import from which others."""
    room_of = {module.name: room for room, inside in rooms.items() for module in inside}
    return {
        room: {room_of[target] for module in inside for target in module.imports if target in room_of} - {room}
        for room, inside in rooms.items()
    }


def floors_of(arrows: Arrows) -> dict[str, int]:
    """The floor of each room: 1 for those that import from no other, else one above the highest below.

    Raises:
        graphlib.CycleError: the arrows run in a circle.
    """
    floors: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():
        floors[room] = 1 + max((floors[below] for below in arrows[room]), default=0)
    return floors


def from_the_top(floors: Mapping[str, int]) -> list[str]:
    """The rooms from the top floor down, by name on each."""
    return sorted(floors, key=lambda room: (-floors[room], room))


def without_implied(arrows: Arrows) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""
    reach: dict[str, set[str]] = {}
    for room in TopologicalSorter(arrows).static_order():
        reach[room] = set(arrows[room]).union(*(reach[below] for below in arrows[room]))
    return {
        room: {below for below in belows if not any(below in reach[other] for other in belows if other != below)}
        for room, belows in arrows.items()
    }


def picture(arrows: Arrows) -> list[str]:
    """The arrows as a Mermaid diagram, from the top floor down."""
    floors = floors_of(arrows)
    drawn = without_implied(arrows)
    # Numbered, since a room may have the name of a keyword (`graph`).
    numbers = {room: f"n{number}" for number, room in enumerate(from_the_top(floors))}
    return [
        "```mermaid",
        "flowchart TD",
        *(f'    {number}["{room}"]' for room, number in numbers.items()),
        *(f"    {number} --> {numbers[below]}" for room, number in numbers.items() for below in sorted(drawn[room])),
        "```",
    ]


def draw() -> str:
    """The whole map as Markdown."""
    known = modules()
    tops: dict[str, list[Module]] = {}
    for name, module in known.items():
        if name != "ripieno":
            tops.setdefault(name.split(".")[1], []).append(module)
    lines = [
        "# Map",
        "",
        "The packages, and the rooms of the big ones, drawn from the imports by `make map`. An arrow means",
        "*imports*; one that follows from others is not drawn. `pyproject.toml` holds the order, and `make",
        "check` compares this file.",
        "",
        "## The packages",
        "",
        *picture(arrows_among(tops)),
    ]
    for house in HOUSES:
        rooms = rooms_of(house, known)
        arrows = arrows_among(rooms)
        floors = floors_of(arrows)
        lines += [
            "",
            f"## `{house}`",
            "",
            _figures(arrows, floors),
            "",
            *picture(arrows),
            "",
            "| room | what it is for | modules |",
            "|---|---|---|",
        ]
        lines += [_row(f"ripieno.{house}.{room}", rooms[room]) for room in from_the_top(floors)]
    return "\n".join(lines) + "\n"


def _figures(arrows: Arrows, floors: Mapping[str, int]) -> str:
    count = sum(map(len, arrows.values()))
    return f"{len(arrows)} rooms and single modules, {max(floors.values())} floors, {count} arrows."


def _row(name: str, inside: list[Module]) -> str:
    room = next(module for module in inside if module.name == name)
    names = [module.name.removeprefix(f"{name}.") for module in inside if module is not room]
    return f"| `{name.rsplit('.', 1)[1]}` | {room.summary} | {', '.join(f'`{each}`' for each in names)} |"


def main() -> int:
    """Write the map, or compare it."""
    drawn = draw()
    if "--check" not in sys.argv[1:]:
        MAP.write_text(drawn, encoding="utf-8")
        return 0
    if MAP.exists() and MAP.read_text(encoding="utf-8") == drawn:
        return 0
    print(f"{MAP.relative_to(ROOT)} is not current: run `make map` and commit it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
