"""Names that no server could know are refused before anything is sent, and disturb nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from ripieno.client import AsyncClient, InvalidRequestError, TaskDefinition, TaskOptions
from ripieno.client.asynchronous.async_session import AsyncSession
from unit.client.cluster import FakeCluster

_ODD = ["k\udce9", "a\0b", "", "  ", "x" * 2_000, "\U0001f600" * 300]

_ASKS: dict[str, Callable[[AsyncClient, AsyncSession, Any], Awaitable[object]]] = {
    "session id": lambda client, session, name: client.session(id=name),
    "session id of another": lambda client, session, name: client.open_session(name),
    "task id": lambda client, session, name: session.submit(b"", id=name),
    "expected_outputs": lambda client, session, name: session.submit(b"", expected_outputs=[name]),
    "dependencies": lambda client, session, name: session.submit(b"", dependencies=[name]),
    "key": lambda client, session, name: session.result(name),
    "key of a stream": lambda client, session, name: anext(session.result_chunks(name)),
    "key of several": lambda client, session, name: anext(aiter(session.results([name]))),
    "key of a file": lambda client, session, name: session.download(name, "/nonexistent"),
    "key whose status": lambda client, session, name: session.result_status([name]),
    "task id whose status": lambda client, session, name: session.status([name]),
    "task id to wait for": lambda client, session, name: session.wait([name]),
    "task id to cancel": lambda client, session, name: session.cancel_tasks([name]),
}


@pytest.mark.parametrize("what", _ASKS)
async def test_whoever_asks_for_the_impossible_is_told_the_field_and_nobody_else_notices(
    what: str, client: AsyncClient, cluster: FakeCluster
) -> None:
    session = await client.session()
    cluster.echo = False
    later = ["later-0", "later-1", "later-2"]
    await session.submit(b"", expected_outputs=later)
    waiting = [asyncio.create_task(session.result(key, timeout=10)) for key in later]
    await asyncio.sleep(0)  # all of them ask
    field = next(
        field
        for field in ("session id", "task id", "expected_outputs", "dependencies", "key")
        if what.startswith(field)
    )
    for name in _ODD:
        with pytest.raises(InvalidRequestError) as refused:
            await _ASKS[what](client, session, name)
        assert refused.value.field == field
    for other in (7, b"bytes"):
        with pytest.raises(TypeError, match=field):
            await _ASKS[what](client, session, other)
    for key in later:
        await cluster.finish(session.id, key, b"!")
    assert await asyncio.gather(*waiting) == [b"!"] * 3


async def test_one_bad_task_of_many_is_told(client: AsyncClient, cluster: FakeCluster) -> None:
    session = await client.session()
    with pytest.raises(InvalidRequestError, match="task id: 't"):
        await session.submit_many([TaskDefinition(b"", id="good"), TaskDefinition(b"", id="t\udce9")])
    assert await (await session.submit(b"", id="good")).result(timeout=5) == b""


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (TaskOptions(priority="high"), "priority"),  # type: ignore[arg-type]
        (TaskOptions(max_retries=1.5), "max_retries"),  # type: ignore[arg-type]
        (TaskOptions(max_duration="1 h"), "max_duration"),  # type: ignore[arg-type]
        (TaskOptions(partition=b"gpu"), "partition"),  # type: ignore[arg-type]
        (TaskOptions(options={"a": 1}), "options"),  # type: ignore[dict-item]
        (TaskOptions(options=["a"]), "options"),  # type: ignore[arg-type]
        (TaskOptions(delay="soon"), "delay"),  # type: ignore[arg-type]
        (TaskOptions(retry_jitter="all"), "retry_jitter"),  # type: ignore[arg-type]
    ],
)
def test_options_of_another_kind_are_named(options: TaskOptions, field: str) -> None:
    with pytest.raises(TypeError, match=f"task_options.{field} "):
        options.checked()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (TaskOptions(max_retries=2**31), "max_retries"),
        (TaskOptions(max_retries=2**70), "max_retries"),
        (TaskOptions(max_duration=float("nan")), "max_duration"),
        (TaskOptions(delay=-1), "delay"),
        (TaskOptions(retry_jitter=2), "options"),
        (TaskOptions(deadline=timedelta(days=-1)), "deadline"),
        (TaskOptions(max_duration=timedelta(days=-1)), "max_duration"),
        (TaskOptions(partition="p\udce9"), "partition"),
        (TaskOptions(options={"a\udce9": ""}), "options"),
    ],
)
def test_options_out_of_range_are_named(options: TaskOptions, field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        options.checked()
    assert refused.value.field.startswith("task_options.")
    assert field in refused.value.detail
