"""``flowchart``: Mermaid flowcharts of boxes and plain arrows, drawn as SVG while the site is built.

The pages then need no script and no other host. What is understood is what ``tools/draw_map.py`` writes::

    flowchart TD
        a["one"]
        a --> b

The layout is the usual one in layers: each box lies one floor above the highest of those that it points
to, an arrow over several floors bends around what lies between, boxes are ordered on their floors so that
few arrows cross, and then moved towards those that they are joined to.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

CHARACTER_PX = 8.4
PADDING_PX = 22.0
BOX_HEIGHT_PX = 32.0
FLOOR_PX = 74.0
GAP_PX = 18.0
#: Room that a bending arrow takes on a floor that it only passes.
PASSAGE_PX = 8.0
SWEEPS = 24

_BOX = re.compile(r'(?P<id>\w+)\["(?P<label>[^"]+)"\]')
_ARROW = re.compile(r"(?P<above>\w+) --> (?P<below>\w+)")


class FlowchartError(ValueError):
    """A chart says something that is not drawn here; the text names the line."""


@dataclass(eq=False)
class Place:
    """A box, or (without a label) where an arrow passes a floor."""

    label: str = ""
    floor: int = 0
    x: float = 0.0
    above: list["Place"] = field(default_factory=list)
    below: list["Place"] = field(default_factory=list)

    @property
    def width(self) -> float:
        """How wide it is, in pixels."""
        return len(self.label) * CHARACTER_PX + PADDING_PX if self.label else PASSAGE_PX


def draw(text: str) -> str:
    """Return the flowchart as one SVG element.

    Raises:
        FlowchartError: a line is neither a box nor an arrow, or the arrows run in a circle.
    """
    labels, arrows = _read(text)
    boxes = {name: Place(label) for name, label in labels.items()}
    _put_on_floors(boxes, arrows)
    routes = [_route(boxes[above], boxes[below]) for above, below in arrows]
    floors = _floors([*boxes.values(), *(place for route in routes for place in route[1:-1])])
    _order(floors)
    _move(floors)
    return _svg(list(boxes.values()), routes)


def _read(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    labels: dict[str, str] = {}
    arrows: list[tuple[str, str]] = []
    first, *lines = [line.strip() for line in text.strip().splitlines()]
    if first != "flowchart TD":
        raise FlowchartError(f"a chart begins with 'flowchart TD', not with {first!r}")
    for line in filter(None, lines):
        if box := _BOX.fullmatch(line):
            labels[box["id"]] = box["label"]
        elif (arrow := _ARROW.fullmatch(line)) and {arrow["above"], arrow["below"]} <= labels.keys():
            arrows.append((arrow["above"], arrow["below"]))
        else:
            raise FlowchartError(f"neither a box nor an arrow between boxes: {line!r}")
    return labels, arrows


def _put_on_floors(boxes: dict[str, Place], arrows: Sequence[tuple[str, str]]) -> None:
    below: dict[str, set[str]] = {name: set() for name in boxes}
    for upper, lower in arrows:
        below[upper].add(lower)
    try:
        for name in TopologicalSorter(below).static_order():
            boxes[name].floor = max((boxes[lower].floor + 1 for lower in below[name]), default=0)
    except CycleError as error:
        raise FlowchartError(f"the arrows run in a circle: {error.args[1]}") from error


def _route(above: Place, below: Place) -> list[Place]:
    """The places that an arrow joins, one on each floor."""
    route = [above, *(Place(floor=floor) for floor in range(above.floor - 1, below.floor, -1)), below]
    for upper, lower in pairwise(route):
        upper.below.append(lower)
        lower.above.append(upper)
    return route


def _floors(places: Sequence[Place]) -> list[list[Place]]:
    floors: list[list[Place]] = [[] for _ in range(max((place.floor for place in places), default=0) + 1)]
    for place in places:
        floors[place.floor].append(place)
    return floors


def _order(floors: list[list[Place]]) -> None:
    """Sort each floor so that few arrows cross: by the mean position of the neighbours, up and down in turn."""
    best, fewest = [list(floor) for floor in floors], _crossings(floors)
    for sweep in range(SWEEPS):
        upwards = sweep % 2 == 0
        for floor in floors if upwards else reversed(floors):
            ranks = {id(place): rank for each in floors for rank, place in enumerate(each)}
            means = {}
            for rank, place in enumerate(floor):
                near = [ranks[id(other)] for other in (place.below if upwards else place.above)]
                means[id(place)] = sum(near) / len(near) if near else rank
            floor.sort(key=lambda place: means[id(place)])
        if (crossings := _crossings(floors)) < fewest:
            best, fewest = [list(floor) for floor in floors], crossings
    for floor, order in zip(floors, best, strict=True):
        floor[:] = order


def _crossings(floors: list[list[Place]]) -> int:
    count = 0
    for lower, upper in pairwise(floors):
        ranks = {id(place): rank for rank, place in enumerate(lower)}
        ends = [ranks[id(other)] for place in upper for other in sorted(place.below, key=lambda p: ranks[id(p)])]
        count += sum(left > right for i, left in enumerate(ends) for right in ends[i + 1 :])
    return count


def _move(floors: list[list[Place]]) -> None:
    """Give each place its x: near the mean of its neighbours, in order, and never closer than the gap."""
    for floor in floors:
        _spread(floor, [0.0] * len(floor))
    for sweep in range(SWEEPS):
        for floor in floors if sweep % 2 else reversed(floors):
            near = [[other.x for other in (*place.above, *place.below)] for place in floor]
            wanted = [sum(xs) / len(xs) if xs else place.x for xs, place in zip(near, floor, strict=True)]
            _spread(floor, wanted)
    left = min(place.x - place.width / 2 for floor in floors for place in floor)
    for floor in floors:
        for place in floor:
            place.x -= left


def _spread(floor: list[Place], wanted: Sequence[float]) -> None:
    """The middle between packing from the left and packing from the right; both keep the gap, and so does it."""
    apart = [(one.width + other.width) / 2 + GAP_PX for one, other in pairwise(floor)]
    from_left = list(wanted)
    for i, gap in enumerate(apart):
        from_left[i + 1] = max(from_left[i + 1], from_left[i] + gap)
    from_right = list(wanted)
    for i, gap in reversed(list(enumerate(apart))):
        from_right[i] = min(from_right[i], from_right[i + 1] - gap)
    for place, left, right in zip(floor, from_left, from_right, strict=True):
        place.x = (left + right) / 2


def _svg(boxes: Sequence[Place], routes: Sequence[Sequence[Place]]) -> str:
    top = max((box.floor for box in boxes), default=0)
    places = [*boxes, *(place for route in routes for place in route)]
    width = max((place.x + place.width / 2 for place in places), default=0.0)
    height = top * FLOOR_PX + BOX_HEIGHT_PX

    def y(place: Place) -> float:
        return (top - place.floor) * FLOOR_PX + BOX_HEIGHT_PX / 2

    box = f"-2 -2 {width + 4:.0f} {height + 4:.0f}"
    style = f"max-width: {width + 4:.0f}px"
    lines = [f'<svg class="flowchart" viewBox="{box}" role="img" style="{style}" xmlns="http://www.w3.org/2000/svg">']
    for route in routes:
        path = f"M{route[0].x:.1f} {y(route[0]) + BOX_HEIGHT_PX / 2:.1f}"
        for upper, lower in pairwise(route):
            start = y(upper) + (BOX_HEIGHT_PX / 2 if upper.label else 0)
            end = y(lower) - (BOX_HEIGHT_PX / 2 if lower.label else 0)
            middle = (start + end) / 2
            path += f" C{upper.x:.1f} {middle:.1f} {lower.x:.1f} {middle:.1f} {lower.x:.1f} {end:.1f}"
        # Arrows arrive from straight above.
        tip_x, tip_y = route[-1].x, y(route[-1]) - BOX_HEIGHT_PX / 2
        lines.append(f'<path class="arrow" d="{path}"/><path class="tip" d="M{tip_x:.1f} {tip_y:.1f} l-4 -7 h8z"/>')
    for place in boxes:
        left, upper_edge = place.x - place.width / 2, y(place) - BOX_HEIGHT_PX / 2
        lines.append(
            f'<rect x="{left:.1f}" y="{upper_edge:.1f}" width="{place.width:.1f}" height="{BOX_HEIGHT_PX:.0f}" rx="6"/>'
            f'<text x="{place.x:.1f}" y="{y(place) + 5:.1f}">{html.escape(place.label)}</text>'
        )
    return "\n".join([*lines, "</svg>"])
