"""The screen of `ripieno top`: a look at a cluster as lines of text, for any width and any encoding.

Nothing but ASCII is printed beside names and reasons, and of these what a terminal lacks is written out.
"""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from ripieno.cli.calling.terminal import printable
from ripieno.cli.overview.look import NEWEST_FAILED, Look
from ripieno.domain.explanations import MOST_AHEAD
from ripieno.domain.sentences import length

#: Widths of columns, in cells; names get what is left.
_NUMBER, _TIME = 9, 12
_LEAST_WIDTH = 20
#: A time limit of so many days is none.
_NO_LIMIT_DAYS = 36_500
#: Partitions that are shown, of those with work or agents, those with work first.
_PARTITIONS = 10


def lines_of(look: Look, address: str, width: int, height: int | None = None, encoding: str = "utf-8") -> list[str]:
    """Return the lines of a screen, none of them wider than ``width`` cells, and no more than ``height``."""
    width = max(width, _LEAST_WIDTH)
    lines = [_cut(line, width) for line in _Screen(look, width, encoding).lines(address)]
    return lines if height is None else lines[:height]


class _Screen:
    """The parts of one screen."""

    def __init__(self, look: Look, width: int, encoding: str) -> None:
        self._look = look
        self._width = width
        self._encoding = encoding

    def lines(self, address: str) -> Iterator[str]:
        """Yield all lines, which may be too wide."""
        look = self._look
        clock = f"{look.at.astimezone():%Y-%m-%d %H:%M:%S}"
        head = f"ripieno top  {self._shown(address)}"
        yield f"{head}{clock:>{max(self._width - cell_len(head), len(clock) + 2)}}"
        rate = "-" if look.rate is None else f"{look.rate:,.1f}"
        yield f"rate       {rate} tasks end in a second"
        more = "+" if any(each.claimable >= MOST_AHEAD for each in look.partitions) else ""
        waiting = f"{look.submitted:,} wait ({look.claimable:,}{more} for a slot alone)"
        yield f"tasks      {look.running:,} run, {look.dispatched:,} with agents, {waiting}"
        yield f"so far     {look.completed:,} completed, {look.failed:,} failed, {look.cancelled:,} cancelled"
        yield f"agents     {look.agents:,} with {look.slots:,} slots, {look.busy:,} of them busy"
        yield ""
        yield from self._partitions()
        if look.slowest:
            yield ""
            yield from self._slowest()
        if look.failures:
            yield ""
            yield f"WHAT FAILS MOST (of the {min(look.failed, NEWEST_FAILED):,} newest failed tasks)"
            for reason, count in look.failures:
                yield f"{count:>{_NUMBER},}  {self._shown(reason)}"

    def _partitions(self) -> Iterator[str]:
        name = max(self._width - 4 * _NUMBER, 12)
        yield _row([("PARTITION", -name), *((each, _NUMBER) for each in ("AGENTS", "SLOTS", "BUSY", "WAITING"))])
        all_ = self._look.partitions
        alive = [each for each in all_ if each.agents or each.claimable]
        seen = sorted(alive, key=lambda each: (not (each.claimable or each.busy), each.name))
        for each in seen[:_PARTITIONS]:
            shown = self._shown(each.name) or "(default)"
            if each.claimable and not each.agents:
                shown += " (no agent serves it)"
            numbers = [f"{each.agents:,}", f"{each.slots:,}", f"{each.busy:,}", _bounded(each.claimable)]
            yield _row([(shown, -name), *((number, _NUMBER) for number in numbers)])
        if more := len(all_) - min(len(seen), _PARTITIONS):
            yield f"and {more:,} more, idle or without agents; `ripieno partition list` shows all"

    def _slowest(self) -> Iterator[str]:
        names = max(self._width - 2 * _TIME - 2, 12)
        task, agent, session = names * 2 // 4, names // 4, names // 4
        times = [("RUNS", _TIME), ("LIMIT", _TIME), ("", -2)]
        yield _row([("SLOWEST TASK", -task), *times, ("AGENT", -agent), ("SESSION", -session)])
        for each in self._look.slowest:
            limit = length(each.max_duration) if each.max_duration.days < _NO_LIMIT_DAYS else "-"
            times = [(length(each.runs_for), _TIME), (limit, _TIME), ("", -2)]
            texts = [(self._shown(each.agent), -agent), (self._shown(each.session_id), -session)]
            yield _row([(self._shown(each.id), -task), *times, *texts])

    def _shown(self, text: str) -> str:
        """Write out what cannot be printed, and what the encoding lacks."""
        return printable(text).encode(self._encoding, "backslashreplace").decode(self._encoding)


def _row(cells: Sequence[tuple[str, int]]) -> str:
    """Join cells of these widths; a text of negative width begins at the left, and has a blank behind it."""
    line = ""
    for text, width in cells:
        if width < 0:
            line += set_cell_size(_cut(text, max(-width - 1, 0)), -width)
        else:
            line += " " * max(width - cell_len(text), 1) + text
    return line.rstrip()


def _bounded(count: int) -> str:
    return f"{count:,}+" if count >= MOST_AHEAD else f"{count:,}"


def _cut(line: str, width: int) -> str:
    """Cut a line that is too wide; its end says that it was."""
    if cell_len(line) <= width:
        return line.rstrip()
    return set_cell_size(line, max(width - 1, 0)).rstrip() + "~" if width else ""
