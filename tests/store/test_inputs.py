"""What a task runs on is found again, as long as it is there."""

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, NotFoundError
from ripieno.domain.statuses import SessionStep
from ripieno.store.reading.inputs import inputs_of_task
from store.world import World, done, options, task


async def test_what_a_task_runs_on(world: World) -> None:
    await world.submit(task("a", "ka", payload=b"\0 bytes"))
    await world.submit(task("b", "kb", "kc", needs=["ka", "ka"]), of=options(retries=5, colour="red"))
    found = await inputs_of_task(world.database, "a###3")
    assert (found.task_id, found.payload, found.payload_key) == ("a", b"\0 bytes", None)
    found = await inputs_of_task(world.database, "b")
    assert (found.expected_output_keys, found.data_dependencies) == (("kb", "kc"), ("ka", "ka"))
    assert (found.options.max_retries, found.options.options) == (5, {"colour": "red"})
    with pytest.raises(NotFoundError, match="there is no task 'nobody'"):
        await inputs_of_task(world.database, "nobody")


async def test_a_payload_that_is_a_result(world: World) -> None:
    stored = await world.stage("an object")
    await world.submit(task("maker", "made", payload=stored), task("t")._replace(payload_key="made"))
    assert isinstance((await inputs_of_task(world.database, "maker")).payload, StoredObject)
    with pytest.raises(ConflictError, match="is result 'made', which is not there: it is CREATED"):
        await inputs_of_task(world.database, "t")
    claimed = await world.claim()
    await world.commit(done(claimed["maker"], {"made": b"the payload"}))
    found = await inputs_of_task(world.database, "t")
    assert (found.payload_key, found.payload) == ("made", b"the payload")


async def test_a_payload_that_is_gone(world: World) -> None:
    [held] = await world.begin(task("t", "k"))
    await world.commit(done(held, {"k": b""}))
    await world.live(SessionStep.CLOSE)
    await world.live(SessionStep.PURGE)
    with pytest.raises(ConflictError, match="the payload of task 't' is gone: its session 's' was purged"):
        await inputs_of_task(world.database, "t")
