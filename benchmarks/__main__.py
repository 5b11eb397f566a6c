"""``python -m benchmarks``: ours, then the peers, one after the other; then one table."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.catalogue import SUBJECTS
from benchmarks.figures import Figure
from benchmarks.machine import facts
from benchmarks.peers import environment
from benchmarks.report import LATEST, PARTIAL, Run, keep, publish, show
from benchmarks.scale import Scale

ROOT = Path(__file__).resolve().parents[1]
_STOP_WITHIN_S = 90.0

#: For some minutes after thousands of files were removed, as with each cluster that was measured, ext4 takes
#: 2 ms longer for a new one. This subject makes a thousand.
_FIRST = "P10"

Work = tuple[str, str, Callable[[], list[Figure]]]


class SubjectError(RuntimeError):
    """A subject failed, or took longer than its limit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 0 also where targets are missed, 1 where something could not be measured."""
    arguments = _arguments(argv)
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that what runs is stopped
    scale = Scale(quick=arguments.quick)
    run = Run(facts(), arguments.quick)
    for name, value in run.facts.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    whole = not arguments.only and not arguments.no_peers and not arguments.quick
    target = LATEST if whole else PARTIAL
    for name, title, measure in _work(run, console, arguments, scale):
        _add(run, console, name, title, measure)
        keep(run, target)
    console.print()
    show(run, console)
    if whole:
        publish(run)
    console.print(f"\nall of it in {target.relative_to(ROOT)}{' and benchmarks/README.md' if whole else ''}")
    return 1 if run.problems else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Figures with their machine, and the peers' beside them."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the load, one round: shows that everything works"
    )
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME[,...]",
                        help=f"some of {', '.join([*SUBJECTS, *environment.PEERS])}; README.md stays as it is")  # fmt: skip
    parsed = parser.parse_args(argv)
    unknown = set(parsed.only or ()) - set(SUBJECTS) - set(environment.PEERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return parsed


def _work(run: Run, console: Console, arguments: argparse.Namespace, scale: Scale) -> Iterator[Work]:
    """What was asked for, ours first: a name, a line, and how to measure it."""
    only = arguments.only or [*SUBJECTS, *environment.PEERS]
    for name in sorted(SUBJECTS, key=lambda name: name != _FIRST):
        if name in only:
            yield name, SUBJECTS[name].title, partial(_subject, name, scale)
    peers = [name for name in environment.PEERS if name in only and not arguments.no_peers]
    if peers and _prepared(run, console):
        for name in peers:
            yield name, "no-op end to end, one task at a time", partial(environment.measure, name, scale)


def _prepared(run: Run, console: Console) -> bool:
    """Make the peers' environment; whether it is there."""
    console.print("the peers' environment", end=" ", style="bold")
    try:
        environment.prepare()
    except environment.PeerError as error:
        run.problems["peers"] = str(error)
        console.print(str(error), style="red", markup=False)
        return False
    console.print("is ready", style="dim")
    return True


def _add(run: Run, console: Console, name: str, title: str, measure: Callable[[], list[Figure]]) -> None:
    """Measure one thing and say so; what goes wrong with it is kept and does not end the rest."""
    console.print(f"{name} {title}", end=" ", style="bold", markup=False)
    began = time.perf_counter()
    try:
        figures = measure()
    except (SubjectError, environment.PeerError) as error:
        run.problems[name] = str(error)
        console.print(f"failed: {error}", style="red", markup=False)
        return
    console.print(f"({time.perf_counter() - began:.0f} s)", style="dim")
    for figure in figures:
        console.print(f"    {figure.name}: {figure.value:,.4g} {figure.unit} {figure.verdict}", markup=False)
    run.figures += figures
    order = [*SUBJECTS, *environment.PEERS]
    run.figures.sort(key=lambda figure: order.index(figure.subject) if figure.subject in order else len(order))


def _subject(name: str, scale: Scale) -> list[Figure]:
    """One subject in a process of its own: what an earlier one left in memory has no part in it.

    Raises:
        SubjectError: it failed, or took longer than its limit (BENCH-1).
    """
    limit_s = SUBJECTS[name].limit_s
    with tempfile.TemporaryDirectory(prefix="rp-b-") as scratch:
        answer, log = Path(scratch) / "figures.json", Path(scratch) / "log"
        command = [sys.executable, "-m", "benchmarks.subject", name, "--to", str(answer)]
        command += ["--quick"] if scale.quick else []
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise SubjectError(f"took longer than {limit_s:.0f} s: {_tail(log)}") from None
            finally:
                _end(process)
        if code:
            raise SubjectError(f"ended with {code}: {_tail(log)}")
        return [Figure.from_json(row) for row in json.loads(answer.read_text())]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it: asked first, since it then stops its cluster; then with all that it started (BENCH-2)."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-800:]


if __name__ == "__main__":
    sys.exit(main())
