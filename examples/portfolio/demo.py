"""Prices the book on a cluster and reports: what ``make demo`` runs.

From the repository's root::

    python -m examples.portfolio.demo                           # on a cluster of its own
    python -m examples.portfolio.demo --address 127.0.0.1:5001  # on one that runs already

Exits with 1 if a task failed or the check against the closed formula did.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from examples.portfolio.book import BookError, Contract, Market, read_book
from examples.portfolio.check import Check, check_sample
from examples.portfolio.cluster import ClusterError, cluster
from examples.portfolio.job import Finished, Progress, run
from examples.portfolio.report import check_table, draw_profits, exposure_table, risk_summary
from ripieno.client import Client
from ripieno.domain.errors import RipienoError

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit code."""
    parsed = _parse(arguments)
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so the cluster is stopped
    try:
        with _cluster_address(parsed, console) as address:
            finished, contracts = _price(parsed, address, console)
        return _report(parsed, finished, contracts, console)
    except (BookError, ClusterError, RipienoError, OSError) as error:  # a TimeoutError is an OSError
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="examples.portfolio.demo", description="Price a book of options on a cluster."
    )
    parser.add_argument("--address", help="HOST:PORT of a cluster that runs the example's worker; default: start one")
    parser.add_argument("--book", type=Path, default=HERE / "book.csv", help="CSV file of contracts")
    parser.add_argument(
        "--market", type=Path, default=HERE / "market.json", help="JSON file of prices and correlations"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="directory for the picture and the cluster's log")
    return parser.parse_args(arguments)


@contextmanager
def _cluster_address(parsed: argparse.Namespace, console: Console) -> Iterator[str]:
    if parsed.address:
        yield parsed.address
        return
    began = time.perf_counter()
    # In a directory of its own, and a short one: sockets in it have short names only.
    with (
        tempfile.TemporaryDirectory(prefix="ripieno-demo-", ignore_cleanup_errors=True) as data,
        cluster(Path(data), parsed.out / "cluster.log") as address,
    ):
        console.print(f"Cluster ready on {address} after {time.perf_counter() - began:.1f} s")
        yield address
        began = time.perf_counter()
    console.print(f"Cluster stopped in {time.perf_counter() - began:.1f} s")


def _price(parsed: argparse.Namespace, address: str, console: Console) -> tuple[Finished, list[Contract]]:
    contracts = read_book(parsed.book)
    columns = (
        TextColumn("Pricing"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[contracts]:,} of {task.fields[book]:,} contracts"),
        TimeElapsedColumn(),
    )
    began = time.perf_counter()
    with Client(address) as client, ProgressBar(*columns, console=console) as bars:
        bar = bars.add_task("", total=None, contracts=0, book=len(contracts))

        def show(progress: Progress) -> None:
            bars.update(bar, total=progress.total, completed=progress.done, contracts=progress.contracts)

        finished = run(client, parsed.market.read_bytes(), contracts, show)
    took = time.perf_counter() - began
    console.print(
        f"{len(contracts):,} contracts in {finished.tasks:,} tasks: {finished.prices / 1e6:,.0f} million simulated "
        f"prices in {took:.1f} s"
    )
    return finished, contracts


def _report(parsed: argparse.Namespace, finished: Finished, contracts: list[Contract], console: Console) -> int:
    market = Market.from_json(parsed.market.read_bytes())
    console.print()
    console.print(exposure_table(market, finished.risk))
    console.print(f"{risk_summary(finished.risk)}\n")
    checks = check_sample(market, contracts, finished.valuations)
    console.print(check_table(checks))
    picture = parsed.out / "pnl.png"
    draw_profits(finished.risk, market, picture)
    console.print(f"Picture of the distribution: {picture}")
    return _verdict(checks, console)


def _verdict(checks: list[Check], console: Console) -> int:
    failed = [check.name for check in checks if not check.passed]
    if failed:
        console.print(f"[bold red]Check failed[/]: {', '.join(failed)} at odds with the closed formula")
        return 1
    console.print("[green]Check passed[/]: every estimate agrees with the closed formula within its own error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
