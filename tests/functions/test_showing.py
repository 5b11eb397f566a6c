"""How far futures have come, shown to people: counts and rates, HTML, bars in terminals and notebooks."""

import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import ripieno
from functions import work
from functions.waiting import until
from ripieno.functions.calling.running_texts import RunningTexts
from ripieno.functions.showing import html, watching
from ripieno.functions.showing.counting import Count, Counter, Pace, rate_in_words, time_in_words
from ripieno.testing import LocalCluster


def test_futures_are_counted_once() -> None:
    futures: list[Future[int]] = [Future() for _ in range(4)]
    counter = Counter(futures)
    assert counter.count() == Count(4, 0, 0)
    futures[0].set_result(1)
    futures[1].set_exception(ValueError())
    futures[2].cancel()
    assert counter.count() == counter.count() == Count(4, 3, 2)
    futures[3].set_result(1)
    assert counter.count().is_over


def test_the_pace_is_that_of_the_last_seconds() -> None:
    assert Pace().rate is None
    assert Pace().left_s(Count(9, 0, 0)) is None
    pace = Pace()
    for second in range(60):
        pace.note(second, second if second < 30 else 30 + 4 * (second - 30))
    assert pace.rate == 4
    assert pace.left_s(Count(1146, 146, 0)) == 250
    assert [rate_in_words(rate) for rate in (12_345.6, 2.53, 0.1)] == ["12,346/s", "2.5/s", "6.0/min"]
    assert [time_in_words(seconds) for seconds in (7.9, 3723)] == ["0:07", "1:02:03"]


def test_html_is_escaped_and_loads_nothing() -> None:
    shown = html.card("<a>", {"<b>": "<c>"}, html.bar(Count(10, 5, 1), "<d>", ["<e>"], ["<f>" + "x" * 1_000]))
    for letter in "abcdef":
        assert f"<{letter}>" not in shown and f"&lt;{letter}&gt;" in shown
    assert "width:40.00%" in shown and "width:10.00%" in shown and "5 of 10" in shown and "1 failed" in shown
    assert not re.search(r"src=|href=|url\(|<script|<style|https?:", shown) and len(shown) < 2_500


def fails(text: str) -> None:
    raise LookupError(text)


def test_objects_as_html_and_as_text() -> None:
    with LocalCluster(max_retries=0) as cluster:
        futures = cluster.map(work.square, range(3))
        failing = cluster.submit(fails, "<i>why</i>")
        assert repr(futures) == "<3 futures of functions.work.square: 3 finished, 0 pending>"
        assert repr(futures[1:]) == "<2 futures of functions.work.square: 2 finished, 0 pending>"
        assert futures == list(futures) and type(cluster.gather(futures)) is list
        assert cluster.submit(type, futures).result() is list
        shown: list[Any] = [cluster, futures, futures[2], failing, cluster.map(fails, "a")]
        everything = [each._repr_html_() for each in shown]
    assert ["6 of 6 tasks" in everything[0], "3 of 3" in everything[1], ">4<" in everything[2]] == [True] * 3
    assert "LookupError: &lt;i&gt;why&lt;/i&gt;" in everything[3] and "LookupError: a" in everything[4]


def test_a_real_cluster_counts_its_tasks(cluster: ripieno.Cluster) -> None:
    assert cluster.count() == Count(0, 0, 0)
    cluster.gather(cluster.map(fails, range(4), chunk=2), errors="return")
    assert cluster.count() == Count(2, 2, 2)
    assert "2 of 2 tasks" in cluster._repr_html_()


def test_what_running_tasks_say(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def says(path: str) -> None:
        ripieno.current().progress(0.25, "epoch 1 of 4")
        ripieno.current().log.warning("working")
        work.wait_for(path)

    future = cluster.submit(says, str(mark))
    listening = RunningTexts(cluster.session)
    until(lambda: list(listening.texts()) == ["epoch 1 of 4 (25%)"])
    listening.close()
    mark.touch()
    assert future.result(30) is None and b"working" in future.logs().stderr


# ------------------------------------------------------------------ in a notebook


class Page:
    def __init__(self, text: str) -> None:
        self.drawn = [text]

    def update(self, text: str) -> None:
        self.drawn.append(text)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """What stands for IPython, with a kernel: the pages that were displayed."""
    displayed: list[Page] = []

    def display(text: str, *, display_id: bool) -> Page:
        assert display_id
        displayed.append(Page(text))
        return displayed[-1]

    ipython, of_display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    of_display.HTML, of_display.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", of_display)
    monkeypatch.setattr(watching, "APPEARS_AFTER_S", 0.05)
    return displayed


def test_a_page_is_kept_up_to_date(cluster: ripieno.Cluster, pages: list[Page], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = cluster.map(work.wait_for, [str(mark)] * 2)
    shown: list[Any] = [cluster, futures, futures[0]]
    for each in shown:
        each._ipython_display_()
    assert ["0 of " in pages[0].drawn[0], "0 of 2" in pages[1].drawn[0], "pending" in pages[2].drawn[0]] == [True] * 3
    mark.touch()
    until(
        lambda: "2 of 2" in pages[0].drawn[-1] and "2 of 2" in pages[1].drawn[-1] and "finished" in pages[2].drawn[-1]
    )


def test_a_bar_under_a_cell(cluster: ripieno.Cluster, pages: list[Page], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = cluster.map(work.wait_for, [str(mark)] * 2)
    waiting = threading.Thread(target=cluster.gather, args=(futures,))
    waiting.start()
    until(lambda: len(pages) == 1)
    mark.touch()
    waiting.join()
    assert "0 of 2 functions.work.wait_for" in pages[0].drawn[0] and "2 of 2" in pages[0].drawn[-1]
    assert cluster.gather(futures, progress=False) and len(list(cluster.as_completed(futures))) == 2
    assert len(pages) == 1


def test_elsewhere_ipython_shows_objects_in_its_own_way(cluster: ripieno.Cluster) -> None:
    with pytest.raises(NotImplementedError):
        cluster._ipython_display_()


# ------------------------------------------------------------------ in a terminal

#: Ends three futures whenever the bar has been drawn, if there is one.
PROGRAM = """
import sys, threading
from concurrent.futures import Future, wait
from ripieno.functions.calling.running_texts import RunningTexts
from ripieno.functions.showing import watching

class Bar(watching.TerminalBar):
    def show(self, *told):
        super().show(*told)
        drawn.release()

watching.APPEARS_AFTER_S = 0.1
watching.TerminalBar = Bar
progress = "off" not in sys.argv
has_bar = progress and watching._bar_of() is not None
drawn = threading.Semaphore(0)
futures = [Future() for _ in range(30)]

def work():
    for place, future in enumerate(futures):
        if has_bar and place % 3 == 0:
            drawn.acquire()
        future.set_exception(ValueError()) if place == 3 else future.set_result(place)
        if place == 20:
            print("printed meanwhile")

threading.Thread(target=work, daemon=True).start()
with watching.watching(futures, "my_module.simulate", lambda: RunningTexts(None), progress=progress):
    wait(futures)
print("the end")
"""


def in_a_terminal(
    *arguments: str, interrupt: bool = False, stdout: Any = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run the program with a terminal; return its exit code and what the terminal was sent."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments],
        stdin=theirs, stdout=theirs if stdout is None else stdout, stderr=theirs, start_new_session=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"} | dict(environment or {}),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed: the program has ended
            break
        seen += piece
        if interrupt and b" left" in seen:
            interrupt = False
            process.send_signal(2)
    os.close(ours)
    return process.wait(60), seen.decode()


def lines_left(seen: str) -> list[str]:
    """Return the lines that are on the screen at the end: those that were not erased."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", seen):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.endswith("A") and piece.startswith("\x1b["):
            row -= int(piece[2:-1])
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith(("\x1b", "\r")):
            lines[row] += piece
    return [line for line in lines if line.strip()]


def test_a_bar_in_a_terminal() -> None:
    code, seen = in_a_terminal()
    assert code == 0
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"my_module.simulate +\S+ +\d+/30 +[\d.]+/s +0:0\d left +1 failed", drawn), drawn
    assert max(len(line) for line in re.split(r"[\r\n]+", drawn)) <= 80
    assert lines_left(seen) == ["printed meanwhile", "the end"]
    assert seen.rfind("\x1b[?25h") >= seen.rfind("\x1b[?25l")


def test_ctrl_c_leaves_a_clean_terminal() -> None:
    code, seen = in_a_terminal(interrupt=True)
    assert code in (-2, 130)
    left = lines_left(seen)
    assert left[-1] == "KeyboardInterrupt" and not [line for line in left if "my_module.simulate " in line]
    assert seen.rfind("\x1b[?25h") >= seen.rfind("\x1b[?25l")


def test_what_is_printed_to_a_file_goes_there(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        code, seen = in_a_terminal(stdout=file)
    assert code == 0 and "/30" in seen
    assert (tmp_path / "out").read_text() == "printed meanwhile\nthe end\n"


@pytest.mark.parametrize(
    ("arguments", "environment"), [(("off",), {}), ((), {"RIPIENO_PROGRESS": "0"}), ((), {"TERM": "dumb"})]
)
def test_no_bar_where_none_is_wanted(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    assert in_a_terminal(*arguments, environment=environment) == (0, "printed meanwhile\r\nthe end\r\n")


def test_no_bar_where_there_is_no_terminal() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("printed meanwhile\nthe end\n", "")


@pytest.mark.parametrize("broken", [OSError("the terminal is gone"), ValueError("closed file")])
def test_a_terminal_that_is_gone_ends_the_bar_alone(monkeypatch: pytest.MonkeyPatch, broken: Exception) -> None:
    tried: list[str] = []

    def no_bar(name: str) -> Any:
        tried.append(name)
        raise broken

    monkeypatch.setattr(watching, "APPEARS_AFTER_S", 0.01)
    monkeypatch.setattr(watching, "_bar_of", lambda: no_bar)
    for _ in range(2):
        with watching.watching([Future()], "f", lambda: RunningTexts(None)):
            until(lambda: not watching._drawing.locked())
    assert tried == ["f", "f"]
