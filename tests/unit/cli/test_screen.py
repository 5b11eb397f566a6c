"""The screen of `ripieno top`: it fits any width and any encoding."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from ripieno.cli.overview.look import Look, PartitionSeen, TaskSeen, _most_frequent
from ripieno.cli.overview.screen import lines_of

AT = datetime(2026, 11, 27, 21, 43, 49, tzinfo=UTC)
BUSY = Look(
    at=AT,
    rate=12_345.67,
    submitted=1_234_567,
    claimable=10_003,
    dispatched=512,
    running=8,
    completed=987_654_321,
    failed=1_017,
    cancelled=3,
    agents=2,
    slots=16,
    busy=8,
    partitions=[
        PartitionSeen("", 2, 16, 8, 10_000),
        PartitionSeen("gpu-東京-with a very long name that goes on and on", 0, 0, 0, 3),
        *(PartitionSeen(f"p{number:02}", 0, 0, 0, 0) for number in range(20)),
    ],
    slowest=[
        TaskSeen(f"task-{'長' * 40}", "session\x1b[31m", "agent 7", AT, timedelta(minutes=3), timedelta(hours=1)),
        TaskSeen("t", "s", "a", AT, timedelta(), timedelta.max),
    ],
    failures=[("ValueError: ünï" + "x" * 300, 57), ("an input was aborted", 1)],
)
IDLE = Look(AT, None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [], [], [])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", [1, 20, 40, 80, 81, 200])
def test_lines_fit(width: int, encoding: str) -> None:
    for look in (BUSY, IDLE):
        lines = lines_of(look, "127.0.0.1:5001", width, encoding=encoding)
        assert max(cell_len(line) for line in lines) <= max(width, 20)
        assert "\x1b" not in "".join(lines)
        assert "\n".join(lines).encode(encoding)
    assert len(lines_of(BUSY, "a:1", 80, 7)) == 7


def test_what_is_seen_at_80_columns() -> None:
    lines = lines_of(BUSY, "127.0.0.1:5001", 80)
    assert lines[0].startswith("ripieno top  127.0.0.1:5001   ") and len(lines[0]) == 80
    assert lines[1:5] == [
        "rate       12,345.7 tasks end in a second",
        "tasks      8 run, 512 with agents, 1,234,567 wait (10,003+ for a slot alone)",
        "so far     987,654,321 completed, 1,017 failed, 3 cancelled",
        "agents     2 with 16 slots, 8 of them busy",
    ]
    assert lines[6:9] == [
        "PARTITION                                      AGENTS    SLOTS     BUSY  WAITING",
        "(default)                                           2       16        8  10,000+",
        "gpu-東京-with a very long name that goes o~         0        0        0        3",
    ]
    assert lines[9:12] == [
        "and 20 more, idle or without agents; `ripieno partition list` shows all",
        "",
        "SLOWEST TASK                       RUNS       LIMIT  AGENT        SESSION",
    ]
    assert lines[13:16] == [
        "t                                  0 ms           -  a            s",
        "",
        "WHAT FAILS MOST (of the 100 newest failed tasks)",
    ]
    assert lines[17] == "        1  an input was aborted"


def test_reasons_are_counted_by_the_line_that_says_most() -> None:
    traceback = 'Traceback (most recent call last):\n  File "a.py", line {0}, in f\n    int(x)\nValueError: no'
    errors = [
        traceback.format(1),
        traceback.format(2),
        "",
        "input 'a' was aborted",
        "input 'b' was aborted",
        "ValueError: no",
    ]
    assert _most_frequent(errors) == [("ValueError: no", 3), ("an input was aborted", 2), ("no reason given", 1)]
