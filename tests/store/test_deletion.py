"""Deletion of the data of results, and what becomes of those who need it."""

import asyncio
import random

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import AlreadyExistsError, ConflictError
from ripieno.domain.outcomes import Failure
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.reading.lookup import NeverThere, fetch_results
from ripieno.store.results.deletion import delete_data
from ripieno.store.sessions.counts import read_usage
from store.test_client_results import Clients
from store.world import World, done, failed, task


@pytest.fixture
def clients(world: World) -> Clients:
    return Clients(world)


async def deleted(world: World, *keys: str) -> list[str]:
    session = await world.sessions.find("s")
    gone: list[str] = []
    async for some, changes in delete_data(world.database, session, keys):
        gone += some
        await world.finish_cuts(changes)
    return gone


async def test_data_is_gone_and_the_row_stays(world: World, clients: Clients) -> None:
    large = await world.stage("large")
    kept, small, big, created = await clients.create(b"kept", b"small", large, None)
    assert sorted(await deleted(world, small, big, created, "unknown", small)) == sorted([small, big])
    assert await world.results(kept, small, big, created) == ["COMPLETED", "DELETED", "DELETED", "CREATED"]
    assert await world.rows("select size from results where status = 12 order by size") == [(5,), (large.size,)]
    assert (await read_usage(world.database, await world.number())).stored == 4
    assert await world.rows("select name from staged_objects") == [("large",)]
    assert await deleted(world, small, big) == []


async def test_a_result_of_a_task_can_be_deleted(world: World) -> None:
    await world.submit(task("a", "ka"))
    await world.run(a="ka")
    assert await deleted(world, "ka") == ["ka"]
    assert await world.statuses("a") == ["COMPLETED"]
    [answer] = await fetch_results(world.database, [(await world.number(), "ka")])
    assert (type(answer), answer) == (NeverThere, "the data of result 'ka' was deleted")


async def test_waiting_tasks_that_need_it_fail_and_say_why(world: World, clients: Clients) -> None:
    key, other, payload = await clients.create(b"data", None, b"payload")
    await world.submit(
        task("waits", "kw", needs=[other, key]),
        task("ready", needs=[key]),
        task("below", needs=["kw"]),
        task("by payload", payload=b"")._replace(payload_key=payload),
        task("not concerned", needs=[other]),
    )
    await deleted(world, key, payload)
    assert await world.statuses("waits", "ready", "below", "by payload") == ["ERROR"] * 4
    assert await world.reasons("ready") == [("ERROR", f"input '{key}' is gone: its data was deleted")]
    assert await world.reasons("by payload") == [("ERROR", f"input '{payload}' is gone: its data was deleted")]
    assert await world.reasons("below") == [
        ("ERROR", f"input 'kw' was aborted: task 'waits' ended in ERROR: input '{key}' is gone: its data was deleted")
    ]
    await clients.complete(other, b"")
    assert list(await world.claim()) == ["not concerned"]


async def test_those_who_are_still_to_be_promoted_fail_too(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    await world.submit(*(task(f"t{place}", needs=[key]) for place in range(700)))
    session = await world.sessions.find("s")
    changes = await clients.results.complete(session, key, b"data")
    assert changes.promotions
    await deleted(world, key)
    assert await world.rows("select status, count(*) from states group by 1") == [(11, 700)]
    assert await world.rows("select key from pending_promotions") == []


async def test_what_runs_goes_on(world: World, clients: Clients) -> None:
    key, payload = await clients.create(b"data", b"payload")
    [claimed] = await world.begin(task("a", "ka", needs=[key], payload=b"")._replace(payload_key=payload))
    await deleted(world, key, payload)
    await world.commit(done(claimed, {"ka": b"made"}))
    assert await world.results("ka") == ["COMPLETED"]


async def test_what_is_given_back_finds_its_input_gone_when_it_is_claimed_again(world: World, clients: Clients) -> None:
    key, payload = await clients.create(b"data", b"payload")
    [claimed] = await world.begin(task("a", "ka", needs=[key], payload=b"")._replace(payload_key=payload))
    await deleted(world, payload)
    await release_if_owned(world.database, [claimed.ticket])
    again = (await world.claim())["a"]
    assert (again.payload, list(again.data_dependencies)) == (b"", [key, payload])
    number = await world.number()
    data, gone = await fetch_results(world.database, [(number, each) for each in again.data_dependencies])
    assert (data, type(gone)) == (b"data", NeverThere)
    await world.commit(failed(again, str(gone), Failure.OUTPUT))
    assert await world.statuses("a") == ["ERROR"]


async def test_nothing_new_may_depend_on_it(world: World, clients: Clients) -> None:
    key, other = await clients.create(b"data", b"other")
    await deleted(world, key)
    await world.submit(task("plain", "kp", needs=[other, key]))
    await world.submit(task("below", needs=["kp"]))
    await world.submit(task("by payload", payload=b"")._replace(payload_key=key))
    assert await world.statuses("plain", "below", "by payload") == ["ERROR"] * 3
    assert await world.reasons("plain") == [("ERROR", f"input '{key}' is gone: its data was deleted")]
    with pytest.raises(AlreadyExistsError):
        await world.submit(task("makes", key))
    with pytest.raises(ConflictError, match="is DELETED"):
        await clients.complete(key, b"data")


async def test_the_reason_of_a_result_without_data(world: World, clients: Clients) -> None:
    [key] = await clients.create(b"data")
    await deleted(world, key)
    await world.submit(task("a", needs=[key]))
    assert [reason for _, reason in await world.reasons("a")] == [f"input '{key}' is gone: its data was deleted"]


@pytest.mark.parametrize("seed", range(12))
async def test_deletions_cross_uploads_submissions_and_commits(world: World, clients: Clients, seed: int) -> None:
    """Whatever crosses, every task ends, none runs without its data, and every invariant holds."""
    chance = random.Random(seed)
    keys = await clients.create(*[None] * 6)
    number = await world.number()

    async def uploads(key: str) -> None:
        try:
            await clients.complete(key, b"data")
        except ConflictError:
            assert await world.results(key) in (["DELETED"], ["CREATED"], ["COMPLETED"])

    async def submits(place: int) -> None:
        needs = chance.sample(keys, 2)
        new = task(f"t{place}", f"k{place}", needs=needs, payload=b"")._replace(payload_key=chance.choice(keys))
        await world.submit(new, task(f"b{place}", needs=[f"k{place}"]))

    async def works() -> None:
        for claimed in (await world.claim(5)).values():
            answers = await fetch_results(world.database, [(number, key) for key in claimed.data_dependencies])
            gone = [each for each in answers if not isinstance(each, bytes | StoredObject)]
            assert all(isinstance(each, NeverThere) for each in gone)
            how = failed(claimed, str(gone[0]), Failure.OUTPUT) if gone else done(
                claimed, dict.fromkeys(claimed.expected_output_keys, b"made")
            )  # fmt: skip
            await world.commit(how)

    for _ in range(4):
        calls = [uploads(chance.choice(keys)), deleted(world, *chance.sample(keys, 2)), works()]
        calls += [submits(chance.randrange(10**9)) for _ in range(3)]
        chance.shuffle(calls)
        await asyncio.gather(*calls)
    for key in keys:
        await uploads(key)
    await deleted(world, *keys)
    while await world.rows("select 1 from states where status = 1 and unmet = 0"):
        await works()
    await works()
    assert await world.rows("select id from tasks join states using (task_no) where status < 10") == []
    assert world.database.crossings == 0
