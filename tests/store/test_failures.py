"""How attempts failed, with what their workers attached: kept by the transaction that ends them, and found again."""

from ripieno.domain.outcomes import Failed, Failure
from ripieno.domain.output import AttemptOutput
from ripieno.domain.statuses import SessionStep, TaskStatus
from ripieno.store.reading.failures import FailedAttempt, FailureState, failure_of_attempt
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.reading.outputs import output_of_attempt
from store.world import World, done, options, over, task

VALUE = b"\x80\0the exception"


async def state_of(world: World, task_id: str, attempt: int | None = None) -> FailureState:
    [found] = (await find_tasks(world.database, [task_id])).values()
    state = await failure_of_attempt(world.database, found.task_no, attempt)
    assert state is not None
    return state


async def failure(world: World, task_id: str, attempt: int | None = None) -> FailedAttempt:
    failed = (await state_of(world, task_id, attempt)).failed
    assert failed is not None
    return failed


async def values(world: World, task_id: str, *attempts: int) -> list[bytes | None]:
    return [(await failure(world, task_id, attempt)).value for attempt in attempts]


async def rows(world: World) -> int:
    [row] = await world.database.fetch("select count(*) from attempt_outputs")
    count: int = row[0]
    return count


async def test_each_attempt_keeps_the_value_of_its_own_failure(world: World) -> None:
    agent = await world.agent("the agent")
    await world.submit(task("t", "r"))
    for number, how in enumerate(
        (
            Failed(Failure.ATTEMPT, "first", VALUE),
            Failed(Failure.TIMEOUT, "second"),
            Failed(Failure.OUTPUT, "third", b""),
        )
    ):
        [claimed] = (await world.claim(agent=agent)).values()
        printed = AttemptOutput(b"printed") if number == 2 else None
        await world.commit(done(claimed)._replace(how=how, output=printed))
        assert (await failure(world, "t")).attempt == number, "the latest that failed"
    assert await values(world, "t", 0, 1, 2) == [VALUE, None, b""]
    first, last = await failure(world, "t", 0), await failure(world, "t")
    assert (first.status, first.detail, first.agent, first.worker) == (
        TaskStatus.ERROR,
        "first",
        "the agent",
        "worker-1",
    )
    assert first.started_at is not None and first.ended_at is not None and first.ended_at >= first.started_at
    assert (await failure(world, "t", 1)).status is TaskStatus.TIMEOUT
    assert (last.detail, last.failed_input, last.root_id) == ("third", "", "")
    assert await rows(world) == 2, "nothing is written for an attempt without"
    [found] = (await find_tasks(world.database, ["t"])).values()
    for attempt, output in ((0, AttemptOutput()), (1, None), (2, AttemptOutput(b"printed"))):
        told = await output_of_attempt(world.database, found.task_no, attempt)
        assert told is not None and told.output == output


async def test_what_has_not_failed_has_no_failure(world: World) -> None:
    assert await failure_of_attempt(world.database, 1 << 60, None) is None
    [first] = await world.begin(task("t", "r"))
    assert await state_of(world, "t") == FailureState(0, TaskStatus.DISPATCHED, None)
    await world.commit(done(first)._replace(how=Failed(Failure.ATTEMPT, "first", VALUE)))
    [second] = (await world.claim()).values()
    assert await values(world, "t", 0) == [VALUE], "while the next attempt runs"
    assert (await state_of(world, "t", 1)).failed is None
    await world.commit(done(second, {"r": b""}))
    assert await state_of(world, "t", 1) == FailureState(1, TaskStatus.COMPLETED, None)
    assert (await failure(world, "t")).detail == "first", "of a task that completed in the end"


async def test_a_late_or_cancelled_attempt_leaves_no_value(world: World) -> None:
    late, cancelled = await world.begin(task("late", "a"), task("cancelled", "b"))
    carrying = Failed(Failure.ATTEMPT, "boom", VALUE)
    await world.commit(done(late)._replace(how=Failed(Failure.ATTEMPT, "boom")))
    await world.claim()
    _, lost = await world.committer.commit([done(late)._replace(how=carrying)])
    assert lost == [late.ticket]
    await world.cancel("cancelled")
    under_way = await failure(world, "cancelled")
    assert (under_way.status, under_way.detail, under_way.ended_at) == (TaskStatus.CANCELLED, "cancelled", None)
    await world.commit(over(cancelled.ticket)._replace(how=carrying))
    ended = await failure(world, "cancelled")
    assert (ended.status, ended.value) == (TaskStatus.CANCELLED, None)
    assert await rows(world) == 0


async def test_whoever_failed_for_want_of_an_input_names_it_and_the_first_cause(world: World) -> None:
    await world.submit(task("root", "a"), of=options(retries=0))
    await world.submit(task("middle", "b", needs=["a"]), task("last", "c", needs=["b"]))
    [claimed] = (await world.claim()).values()
    await world.commit(done(claimed)._replace(how=Failed(Failure.ATTEMPT, "boom", VALUE)))
    for name, key in (("middle", "a"), ("last", "b")):
        told = await failure(world, name)
        assert (told.attempt, told.status, told.failed_input, told.root_id) == (0, TaskStatus.ERROR, key, "root")
        assert told.detail.startswith(f"input {key!r} was aborted: task ") and told.detail.endswith("ERROR: boom")
        assert (told.value, told.agent, told.worker, told.started_at) == (None, "", "", None)
    assert (await failure(world, "root")).value == VALUE


async def test_values_go_with_the_data_of_their_session(world: World) -> None:
    await world.session("other", options(retries=0))
    await world.submit(task("ours", "r"), of=options(retries=0))
    await world.submit(task("theirs", "r"), session_id="other")
    claimed = await world.claim()
    await world.commit(*(done(each)._replace(how=Failed(Failure.ATTEMPT, "boom", VALUE)) for each in claimed.values()))
    await world.live(SessionStep.CLOSE)
    await world.live(SessionStep.PURGE)
    assert await values(world, "ours", 0) == [None]
    assert await values(world, "theirs", 0) == [VALUE]
    await world.live(SessionStep.DELETE)
    await world.live(SessionStep.DELETE, "other")
    assert await rows(world) == 0
