"""Part 2: any non-blank string is an id, and no two (session, key) pairs ever meet."""

import itertools

import pytest

from protocol.bare_client import RESULT_COMPLETED, Client
from protocol.bare_worker import Workers
from protocol.messages import COMPLETED, by_sessions, by_tasks, out, task, unique
from protocol.stubs.submitter_service_pb2 import SessionFilter
from protocol.test_rules_submission import LONGEST

ODD = [
    "100%",
    "%s %d %(x)s %%",
    "%2F%00",
    "a.b.c",
    "...",
    "##",
    "a###b",
    "###1",
    " leading and trailing ",
    "line\nbreak\ttab",
    "naïve Größe",
    "楽譜",
    "🎻🎼",
    "e\u0301",
    "\u00e9",
    "'; drop table task; --",
    '"quoted" \\back\\slash',
    "{braces} [brackets] $1 $$",
    "a/b/../c",
    "\x01\x7f\ufeff",
    "null",
    "*",
]


@pytest.mark.parametrize("odd", ODD)
async def test_odd_names_everywhere(client: Client, workers: Workers, odd: str) -> None:
    run = unique("odd")
    session, name, after = f"{run}{odd}", f"{odd}{run}", f"{run} after {odd}"
    await client.named_session(session)

    await client.submit(session, task(name, [odd], payload=odd.encode()), task(after, [f"{odd} "], needs=[odd]))

    assert await client.available(session, odd) is None
    assert await client.available(session, f"{odd} ") is None
    assert await client.result(session, odd) == odd.encode()
    assert await client.statuses(name, after) == {name: COMPLETED, after: COMPLETED}
    assert await client.result_statuses(session, odd) == {odd: RESULT_COMPLETED}
    assert await client.listed(by_sessions(session)) == [name, after]
    assert await client.listed(by_tasks(name)) == [name]
    assert (await client.output(name)).WhichOneof("type") == "ok"
    assert list((await client.stub.ListSessions(SessionFilter(sessions=[session]))).session_ids) == [session]
    [attempt] = workers.attempts_of(name)
    assert (attempt.session_id, attempt.task_id) == (session, name)
    await client.cancel_session(session)


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_name_alone(client: Client, odd: str) -> None:
    await client.named_session(odd)
    await client.submit(odd, task(odd, [odd], payload=b"x"))
    assert await client.available(odd, odd) is None
    assert await client.result(odd, odd) == b"x"


@pytest.mark.parametrize("longest", LONGEST)
async def test_the_longest_names(client: Client, longest: str) -> None:
    await client.named_session(longest)
    first = longest[:-1]
    await client.submit(longest, task(first, [longest], payload=b"x"), task(longest, [first], needs=[longest]))
    assert await client.finish(longest) == {COMPLETED: 2}
    assert await client.result(longest, longest) == b"x"
    assert await client.listed(by_tasks(longest, f"{longest}###1")) == [longest]


async def test_no_two_pairs_collide(client: Client) -> None:
    run = unique("pair")
    pieces = ["a", "b", "ab", "a.b", "a/b", "a%2Fb", "a:b", "a b", "a#b", "a\x1fb", "A", "a.", ".a"]
    sessions = {piece: f"{run}{piece}" for piece in pieces}
    for session in sessions.values():
        await client.named_session(session)
    pairs = list(itertools.product(sessions.values(), [*pieces, *(f"{run}{piece}" for piece in pieces)]))
    for session in sessions.values():
        tasks = [
            task(f"{number}{run}", [key], payload=f"{number}".encode())
            for number, (owner, key) in enumerate(pairs)
            if owner == session
        ]
        await client.submit(session, *tasks)
    for session in sessions.values():
        await client.finish(session)

    for number, (session, key) in enumerate(pairs):
        assert await client.result(session, key) == f"{number}".encode(), (session, key)


async def test_names_differ_by_case_and_spaces(client: Client) -> None:
    session, run = await client.session(), unique("case")
    names = [f"{run}A", f"{run}a", f"{run}a ", f" {run}a", f"{run}a\u00a0"]

    await client.submit(session, *(task(name, payload=name.encode()) for name in names))

    await client.finish(session)
    for name in names:
        assert await client.result(session, out(name)) == name.encode()
