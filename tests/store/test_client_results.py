"""Results that no task makes: created, completed, taken over, needed, and given as payloads."""

import pytest

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import AlreadyExistsError, ConflictError, NotFoundError, SessionCancelledError
from ripieno.domain.result_ids import result_id, session_of_result
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.results.client_results import ClientResults, NewResult
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.counts import read_usage
from store.world import World, done, failed, task


class Clients:
    """What clients do with results of their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.results = ClientResults(world.database)

    async def create(self, *data: Data | None, session_id: str = "s") -> list[str]:
        session = await self.world.sessions.find(session_id)
        new = [NewResult(f"name {place}", each) for place, each in enumerate(data)]
        keys, changes = await self.results.create(session, new)
        assert set(changes.completed.get(session.session_no, {})) == {
            key for key, each in zip(keys, data, strict=True) if each is not None
        }
        return keys

    async def complete(self, key: str, data: Data, session_id: str = "s") -> Changes:
        session = await self.world.sessions.find(session_id)
        return await self.world.finish_cuts(await self.results.complete(session, key, data))


@pytest.fixture
def clients(world: World) -> Clients:
    return Clients(world)


async def test_ids_lead_to_their_session_and_are_never_given_twice(world: World, clients: Clients) -> None:
    await world.session("t")
    keys = await clients.create(*[None] * 1500) + await clients.create(None, session_id="t")
    keys += await Clients(World(world.database)).create(*[None] * 10)
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {36}
    assert [session_of_result(keys[0]), session_of_result(keys[1500])] == [
        await world.number(),
        await world.number("t"),
    ]


def test_only_ids_of_ours_lead_to_a_session() -> None:
    assert session_of_result(result_id(7, 12)) == 7
    assert session_of_result("k") is None
    assert session_of_result("0000000000070000000000000000000c") is None
    assert session_of_result(result_id(7, 12).upper().replace("C", "G")) is None


async def test_data_at_once_completes_and_counts(world: World, clients: Clients) -> None:
    stored = await world.stage("large")
    created, small, empty, large = await clients.create(None, b"small", b"", stored)
    assert await world.results(created, small, empty, large) == ["CREATED", "COMPLETED", "COMPLETED", "COMPLETED"]
    assert [await world.data(key) for key in (small, empty, large)] == [b"small", b"", stored]
    assert (await read_usage(world.database, await world.number())).stored == 5 + stored.size
    assert await world.rows("select name from results order by key") == [
        ("name 0",),
        ("name 1",),
        ("name 2",),
        ("name 3",),
    ]


async def test_all_or_none_are_created(world: World, clients: Clients) -> None:
    with pytest.raises(ConflictError, match="large data are gone"):
        await clients.create(b"small", None, StoredObject("never staged", 1, b""))
    assert await world.rows("select key from results") == []
    assert await world.rows("select key from unowned_results") == []


async def test_a_key_that_somebody_guessed_is_not_given_out(world: World, clients: Clients) -> None:
    [before] = await clients.create(None)
    number = int(before.replace("-", "")[12:], 16)
    guessed = result_id(await world.number(), number + 1)
    await world.submit(task("guesses", needs=[guessed]))
    [key] = await clients.create(None)
    assert key != guessed
    assert await world.results(guessed) == ["-"]


async def test_a_cancelled_session_takes_no_results_and_its_open_ones_are_aborted(
    world: World, clients: Clients
) -> None:
    key, complete = await clients.create(None, b"data")
    await world.submit(task("waits", needs=[key]))
    changes = await world.cancel_session()
    assert changes.aborted == {await world.number(): [key]}
    assert await world.results(key, complete) == ["ABORTED", "COMPLETED"]
    assert await world.statuses("waits") == ["CANCELLED"]
    with pytest.raises(SessionCancelledError):
        await clients.create(None)
    with pytest.raises(ConflictError, match="is ABORTED"):
        await clients.complete(key, b"late")


async def test_an_upload_promotes_whoever_waits(world: World, clients: Clients) -> None:
    key, other = await clients.create(None, None)
    await world.submit(task("a", "ka", needs=[key, key]), task("b", needs=[key, other]))
    assert await world.claim() == {}
    changes = await clients.complete(key, b"data")
    assert changes.partitions == {""}
    assert changes.completed == {await world.number(): {key: b"data"}}
    assert list(await world.claim()) == ["a"]
    await clients.complete(other, b"")
    assert list(await world.claim()) == ["b"]


async def test_very_many_are_promoted_in_steps(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    await world.submit(*(task(f"t{place}", needs=[key]) for place in range(1_200)))
    session = await world.sessions.find("s")
    changes = await clients.results.complete(session, key, b"data")
    assert changes.promotions == {session.session_no}
    await world.finish_cuts(changes)
    assert len(await world.claim(2_000)) == 1_200


async def test_the_same_data_again_is_a_success_and_other_data_is_not(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    await clients.complete(key, b"data")
    assert await clients.complete(key, b"data") == Changes()
    with pytest.raises(ConflictError, match=r"4 bytes with SHA-256 \w{64}, not 5 bytes with \w{64}"):
        await clients.complete(key, b"other")
    assert await world.data(key) == b"data"


async def test_what_is_not_there_or_not_a_clients_takes_no_data(world: World, clients: Clients) -> None:
    await world.submit(task("a", "ka", needs=["named"]))
    with pytest.raises(NotFoundError, match="'unknown' does not exist"):
        await clients.complete("unknown", b"")
    with pytest.raises(NotFoundError, match="'named' does not exist"):
        await clients.complete("named", b"")
    with pytest.raises(ConflictError, match="is an output of task 'a'"):
        await clients.complete("ka", b"")


async def test_a_submission_takes_over_what_nobody_has_uploaded(world: World, clients: Clients) -> None:
    key, complete = await clients.create(None, b"data")
    await world.submit(task("waits", needs=[key]))
    with pytest.raises(AlreadyExistsError):
        await world.submit(task("a", complete))
    await world.submit(task("a", key))
    assert await world.owner(key) == "a"
    with pytest.raises(ConflictError, match="is an output of task 'a'"):
        await clients.complete(key, b"")
    await world.run(a=key)
    assert list(await world.claim()) == ["waits"]


async def test_a_sub_task_takes_over_too(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    [parent] = await world.begin(task("parent"))
    await world.commit(done(parent, sub_tasks=[task("child", key)]))
    await world.run(child=key)
    assert await world.results(key) == ["COMPLETED"]


async def test_a_payload_that_is_there_already(world: World, clients: Clients) -> None:
    large = await world.stage("large")
    small_key, large_key = await clients.create(b"the payload", large)
    await world.submit(task("a", payload=b"")._replace(payload_key=small_key))
    await world.submit(task("b", payload=b"")._replace(payload_key=large_key), task("c", payload=b"own"))
    claimed = await world.claim()
    assert {name: each.payload for name, each in claimed.items()} == {"a": b"the payload", "b": large, "c": b"own"}
    assert [list(each.data_dependencies) for each in claimed.values()] == [[], [], []]


async def test_a_payload_that_is_still_to_come(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    await world.submit(
        task("makes", "made"),
        task("a", needs=["made"], payload=b"")._replace(payload_key=key),
        task("b", payload=b"")._replace(payload_key="made"),
    )
    await clients.complete(key, b"uploaded")
    await world.run(makes="made")
    assert {name: each.payload for name, each in (await world.claim()).items()} == {"a": b"uploaded", "b": b"made"}


async def test_a_payload_that_is_also_a_dependency_counts_once(world: World, clients: Clients) -> None:
    [key] = await clients.create(None)
    await world.submit(task("a", needs=[key], payload=b"")._replace(payload_key=key))
    await clients.complete(key, b"both")
    [claimed] = (await world.claim()).values()
    assert (claimed.payload, list(claimed.data_dependencies)) == (b"both", [key])


async def test_an_aborted_payload_fails_the_task_and_says_why(world: World) -> None:
    [claimed] = await world.begin(task("makes", "made")._replace(payload=b""))
    await world.submit(
        task("a", "ka", needs=["other"], payload=b"")._replace(payload_key="made"), task("b", needs=["ka"])
    )
    for _ in range(3):
        await world.commit(failed(claimed, "it broke"))
        claimed = (await world.claim()).get("makes", claimed)
    assert await world.statuses("a", "b") == ["ERROR", "ERROR"]
    assert await world.reasons("a") == [("ERROR", "input 'made' was aborted: task 'makes' ended in ERROR: it broke")]
    assert await world.reasons("b") == [
        (
            "ERROR",
            "input 'ka' was aborted: task 'a' ended in ERROR: input 'made' was aborted: task 'makes' ended in ERROR: it broke",
        )
    ]


async def test_the_same_submission_again_is_known_by_its_payload(world: World, clients: Clients) -> None:
    one, other = await clients.create(b"1", b"1")
    await world.submit(task("a", payload=b"")._replace(payload_key=one))
    await world.submit(task("a", payload=b"")._replace(payload_key=one))
    for different in (
        task("a", payload=b"")._replace(payload_key=other),
        task("a", payload=b"1"),
        task("a", needs=[one], payload=b"")._replace(payload_key=one),
    ):
        with pytest.raises(AlreadyExistsError):
            await world.submit(different)


async def test_standing_says_what_is_known(world: World, clients: Clients) -> None:
    session = await world.sessions.find("s")
    key, complete = await clients.create(None, b"data")
    await world.submit(task("a", "ka"))
    assert await clients.results.find(session, key) == (ResultStatus.CREATED, "name 0", None, 0)
    assert await clients.results.find(session, complete) == (ResultStatus.COMPLETED, "name 1", None, 4)
    assert (await clients.results.find(session, "ka")).owner_id == "a"
    with pytest.raises(NotFoundError):
        await clients.results.find(session, "unknown")
    assert await world.status("a") is TaskStatus.SUBMITTED
