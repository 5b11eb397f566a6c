"""`ripieno events`, against a replica."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from click.testing import CliRunner, Result

from control.replica import Served, serving
from ripieno.cli.root import cli
from store.world import done, task


@pytest_asyncio.fixture
async def served(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(database_url, tmp_path / "objects") as served:
        await served.world.session()
        yield served


async def events(served: Served, *arguments: str) -> Result:
    line = ["events", *arguments, "--address", served.address]
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli, line))


async def test_what_there_is_then_what_came_since_by_its_cursor(served: Served) -> None:
    await served.world.submit(task("a", "x"))
    first = await events(served, "s")
    assert first.exit_code == 0, first.output
    told = [line.split("  ", 1)[1] for line in first.stdout.splitlines()]
    assert told == [
        "s  status=RUNNING",
        "s  result=x status=CREATED owner=a",
        "s  task=a status=SUBMITTED outputs=['x'] ready=True",
    ]
    cursor = first.stderr.removeprefix("cursor ").strip()
    claimed = await served.world.claim()
    await served.world.commit(done(claimed["a"], {"x": b"four"}))
    since = await events(served, "s", "--from", cursor, "--output", "jsonl")
    lines = [json.loads(line) for line in since.stdout.splitlines()]
    assert [(line.get("task") or line.get("result"), line["status"]) for line in lines[:-1]] == [
        ("a", "DISPATCHED"),
        ("a", "COMPLETED"),
        ("x", "COMPLETED"),
    ]
    assert lines[2]["size"] == 4 and list(lines[-1]) == ["cursor"]
    nothing = await events(served, "s", "--from", lines[-1]["cursor"], "--output", "jsonl")
    assert [list(json.loads(line)) for line in nothing.stdout.splitlines()] == [["cursor"]]


async def test_what_cannot_be_followed_is_told(served: Served) -> None:
    assert "session 'nowhere' does not exist" in (await events(served, "nowhere")).output
    assert "'rubbish' is not a cursor of this log" in (await events(served, "--from", "rubbish")).output
