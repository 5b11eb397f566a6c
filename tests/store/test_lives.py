"""The life of a session: pausing, resuming, closing, stopping submission."""

import asyncio

import pytest

from ripieno.domain.errors import NotFoundError, SessionCancelledError, SessionStepError, SubmissionStoppedError
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import SESSION_TRANSITIONS, SessionStatus, SessionStep
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.database.database import Connection
from ripieno.store.database.queries import Queries
from ripieno.store.life.lives import follow, take
from ripieno.store.life.retention import note_ended
from ripieno.store.sessions.changes import Changes
from store.world import World, done, failed, options, task, until_one_waits, whole


async def status(world: World, session_id: str = "s") -> SessionStatus:
    [(number,)] = await world.rows("select status from sessions where id = $1", session_id)
    assert isinstance(number, int)
    return SessionStatus(number)


async def test_nothing_of_a_paused_session_is_claimed_and_all_of_it_when_it_is_resumed(world: World) -> None:
    held, retried, given_back = await world.begin(task("held", "h"), task("retried", "r"), task("given back", "g"))
    await world.submit(task("waiting"), task("after", needs=["h"]))
    await world.submit(task("gpu"), of=options(partition="gpu"))
    await world.live(SessionStep.PAUSE)
    assert await world.claim() == {} == await world.claim(partition="gpu")
    await world.submit(task("while paused"), task("needy", needs=["h"]))
    changes = await world.commit(done(held, {"h": b"1"}, [task("sub")]), failed(retried))
    _, refused = await release_if_owned(world.database, [given_back.ticket])
    assert changes.partitions == set() and refused == []
    assert await world.claim() == {} == await world.claim(partition="gpu")
    assert await world.statuses("held", "sub", "after") == ["COMPLETED", "SUBMITTED", "SUBMITTED"]

    changes = await world.live(SessionStep.RESUME)

    assert changes.partitions == {"", "gpu"}
    assert set(await world.claim()) == {"retried", "given back", "waiting", "after", "while paused", "needy", "sub"}
    assert set(await world.claim(partition="gpu")) == {"gpu"}


@pytest.mark.parametrize("step", SessionStep)
@pytest.mark.parametrize("before", [each for each in SessionStatus if each is not SessionStatus.DELETED])
async def test_each_step_from_each_status(world: World, before: SessionStatus, step: SessionStep) -> None:
    [finished] = await world.begin(task("a", "ka"))
    await world.commit(done(finished, {"ka": b"1"}))
    await world.come_to(before)
    assert await status(world) is before
    after = SESSION_TRANSITIONS[before].get(step)
    if after is None:
        with pytest.raises(SessionStepError, match=f"'s' cannot be {step.value}: it is {before.name}"):
            await world.live(step)
        assert await status(world) is before
        return
    for _ in range(2):  # a repetition changes nothing
        if after is SessionStatus.DELETED:
            number = await world.number()
            await world.live(step)
            assert await world.rows("select id from sessions") == []
            assert await world.rows("select session_no, id from deleted_sessions") == [(number, "s")]
            return
        await world.live(step)
        assert await status(world) is after


@pytest.mark.parametrize(
    ("at", "refusal"),
    [
        (SessionStatus.CLOSED, "is CLOSED"),
        (SessionStatus.CANCELLED, "is cancelled"),
        (SessionStatus.PURGED, "is PURGED"),
    ],
)
async def test_a_session_that_takes_no_tasks_says_why(world: World, at: SessionStatus, refusal: str) -> None:
    await world.come_to(at)
    with pytest.raises(SubmissionStoppedError, match=f"session 's' {refusal}"):
        await world.submit(task("late"))
    assert await world.statuses("late") == ["-"]


async def test_what_a_closed_session_has_runs_to_its_end(world: World) -> None:
    parent, retried = await world.begin(task("parent", "p"), task("retried", "r"))
    await world.submit(task("waiting", "w"), task("after", needs=["w"]))
    await world.live(SessionStep.PAUSE)
    await world.live(SessionStep.CLOSE)
    await world.commit(done(parent, {"p": b"1"}, [task("sub")]), failed(retried))
    assert await world.statuses("parent", "sub", "retried") == ["ERROR", "-", "SUBMITTED"]
    assert await world.reasons("parent") == [
        ("ERROR", "its sub-tasks were refused: the session is CLOSED, and takes no more tasks")
    ]
    await world.run(retried="r", waiting="w")
    assert list(await world.claim()) == ["after"]


async def test_failures_in_closed_and_paused_sessions_reach_those_who_wait(world: World) -> None:
    for session_id, step in (("p", SessionStep.PAUSE), ("c", SessionStep.CLOSE)):
        await world.session(session_id)
        await world.submit(task(f"{session_id}1", "k"), task(f"{session_id}2", needs=["k"]), session_id=session_id)
        claimed = await world.claim()
        await world.live(step, session_id)
        await world.commit(failed(claimed[f"{session_id}1"], failure=Failure.OUTPUT))
        assert await world.statuses(f"{session_id}1", f"{session_id}2") == ["ERROR", "ERROR"]


async def test_submission_of_clients_is_stopped_for_good(world: World) -> None:
    [parent] = await world.begin(task("parent"))
    await world.stop_submission(client=True)
    with pytest.raises(SubmissionStoppedError, match="takes no more tasks of clients"):
        await world.submit(task("late"))
    await world.stop_submission()
    await world.live(SessionStep.PAUSE)
    await world.live(SessionStep.RESUME)
    with pytest.raises(SubmissionStoppedError, match="takes no more tasks of clients"):
        await world.submit(task("late"))
    await world.submit(task("parent"))  # what succeeded before
    await world.commit(done(parent, sub_tasks=[task("sub")]))
    assert list(await world.claim()) == ["sub"]


async def test_sub_tasks_of_workers_are_refused_as_the_fault_of_their_task(world: World) -> None:
    one, other = await world.begin(task("one", "k"), task("other"))
    await world.stop_submission(worker=True)
    await world.commit(done(one, {"k": b"1"}, [task("sub")]), done(other))
    assert await world.statuses("one", "other", "sub") == ["ERROR", "COMPLETED", "-"]
    assert await world.reasons("one") == [
        ("ERROR", "its sub-tasks were refused: the session takes no more tasks of workers")
    ]
    await world.submit(task("of a client"))


async def test_a_cancelled_session_lets_its_parked_tasks_go(world: World) -> None:
    await world.begin(task("held"))
    await world.submit(task("a"), task("b", needs=["never"]))
    await world.live(SessionStep.PAUSE)
    await world.cancel_session()
    assert await world.statuses("held", "a", "b") == ["CANCELLING", "CANCELLED", "CANCELLED"]
    with pytest.raises(SessionCancelledError):
        await world.submit(task("late"))
    assert await world.rows("select * from pending_sweeps") == []


async def test_a_purge_waits_for_nobody(world: World) -> None:
    [held] = await world.begin(task("held", "k"))
    await world.submit(task("waiting"))
    await world.live(SessionStep.CLOSE)
    with pytest.raises(SessionStepError, match="cannot be purged: 2 of its tasks are unfinished"):
        await world.live(SessionStep.PURGE)
    await world.commit(done(held, {"k": b"12345"}))
    assert await world.data("k") == b"12345"


async def test_a_purged_session_keeps_its_rows_and_nothing_of_its_data(world: World) -> None:
    stored = await world.stage("an object")
    large = await world.stage("a result")
    await world.submit(task("a", "ka", payload=stored), task("b", "kb"), task("c", "kc"))
    claimed = await world.claim()
    await world.commit(
        done(claimed["a"], {"ka": large}),
        done(claimed["b"], {"kb": b"1"}),
        failed(claimed["c"], failure=Failure.OUTPUT),
    )
    await world.live(SessionStep.CLOSE)
    changes = await world.live(SessionStep.PURGE)
    assert changes.gone == {await world.number()}
    assert await world.results("ka", "kb", "kc") == ["DELETED", "DELETED", "ABORTED"]
    assert await world.statuses("a", "b", "c") == ["COMPLETED", "COMPLETED", "ERROR"]
    assert await world.rows("select * from blobs") == []
    assert await world.rows("select name from staged_objects order by 1") == [("a result",), ("an object",)]
    assert await world.rows("select sum(delta)::integer from session_counts where status = -1") == [(0,)]


async def test_a_deleted_session_leaves_its_id_and_nothing_else(world: World) -> None:
    held, retried, finished = await world.begin(task("held", "h"), task("retried"), task("finished", "f"))
    await world.commit(failed(retried), done(finished, {"f": await world.stage("a result")}))
    await world.submit(task("waiting", needs=["h", "never"]))
    await world.session("other")
    await world.submit(task("of another"), session_id="other")
    number = await world.number()

    changes = await world.live(SessionStep.DELETE)

    assert changes.gone == {number}
    assert [ticket for _, ticket in changes.cancelled] == [held.ticket]
    for table in ("tasks", "states", "results", "dependencies", "options", "session_counts", "sessions"):
        rows = await world.rows(f"select * from {table} where session_no = {number}")
        assert rows == [], table
    assert await world.rows("select name from staged_objects") == [("a result",)]
    assert list(await world.claim()) == ["of another"]

    late, lost = await world.committer.commit([done(held, {"h": b"1"}, [task("sub")])])
    assert lost == [held.ticket] and late.sessions == set()
    with pytest.raises(NotFoundError, match="session 's' was deleted"):
        await world.submit(task("late"))  # as far as this replica remembers, it is there
    with pytest.raises(NotFoundError, match="session 's' was deleted"):
        await world.submit(task("late"), of=options(retries=7))
    with pytest.raises(NotFoundError, match="session 's' was deleted"):
        await world.live(SessionStep.PAUSE)
    world.sessions.forget([number])
    with pytest.raises(NotFoundError):
        await world.sessions.find("s")
    await world.submit(task("held"), session_id="other")  # names of tasks may come back


async def test_the_id_of_a_deleted_session_does_not_come_back_for_a_year(world: World) -> None:
    await world.live(SessionStep.DELETE)
    assert not await world.sessions.create("s", options())
    assert await world.rows("select * from sessions") == [] == await world.rows("select * from options")
    await world.database.fetch("update deleted_sessions set deleted_at = now() - interval '1 year 1 second'")
    assert await world.sessions.create("s", options())


async def test_parking_keeps_the_order_of_claims(world: World) -> None:
    await world.submit(task("a"), task("b"), of=options(priority=1))
    await world.live(SessionStep.PAUSE)
    await world.submit(task("c"), of=options(priority=99))
    await world.submit(task("d"), of=options(priority=1))
    await world.live(SessionStep.RESUME)
    assert list(await world.claim()) == ["c", "a", "b", "d"]


async def test_what_is_retried_while_its_session_is_paused_waits_until_it_is_resumed(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.submit(task("b", needs=["ka"]))
    await world.live(SessionStep.PAUSE)
    await world.commit(failed(claimed, failure=Failure.OUTPUT))
    assert await world.retry("a") == ["a"]
    assert await world.statuses("a", "b") == ["SUBMITTED", "SUBMITTED"]
    assert await world.claim() == {}
    await world.live(SessionStep.RESUME)
    await world.run(a="ka")
    assert list(await world.claim()) == ["b"]


async def test_what_failed_while_its_session_was_paused_is_retried_where_its_options_say(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.submit(task("b", needs=["ka"]), of=options(partition="gpu"))
    await world.live(SessionStep.PAUSE)
    await world.commit(failed(claimed, failure=Failure.OUTPUT))
    await world.live(SessionStep.RESUME)
    assert await world.retry("a") == ["a"]
    await world.run(a="ka")
    assert list(await world.claim(partition="gpu")) == ["b"]


async def test_nothing_is_retried_in_a_session_that_is_purged(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.commit(failed(claimed, failure=Failure.OUTPUT))
    await world.come_to(SessionStatus.PURGED)
    with pytest.raises(SubmissionStoppedError, match="session 's' is PURGED"):
        await world.retry("a")


async def test_what_failed_in_a_session_that_is_closed_may_be_retried(world: World) -> None:
    [claimed] = await world.begin(task("a", "ka"))
    await world.submit(task("b", needs=["ka"]))
    await world.live(SessionStep.PAUSE)
    await world.commit(failed(claimed, failure=Failure.OUTPUT))
    await world.come_to(SessionStatus.CLOSED)
    await note_ended(world.database)
    assert await world.rows("select 1 from sessions where ended_at is not null") == [(1,)]
    assert await world.retry("a") == ["a"]
    assert await world.rows("select 1 from sessions where ended_at is not null") == []
    with pytest.raises(SessionStepError):
        await world.live(SessionStep.PURGE)
    await world.run(a="ka")
    assert list(await world.claim()) == ["b"]


async def test_what_is_claimed_in_the_middle_of_a_pause_is_parked_when_it_comes_back(world: World) -> None:
    await world.begin(task("held"))
    await world.submit(task("given back"), task("retried"))
    _, sweep = await take(world.database, await world.number(), SessionStep.PAUSE)
    assert sweep is not None
    turns = follow(world.database, sweep)
    await anext(turns)  # what was held when it was paused is parked
    claimed = await world.claim()
    assert set(claimed) == {"given back", "retried"}
    await whole(turns)
    await release_if_owned(world.database, [claimed["given back"].ticket])
    await world.commit(failed(claimed["retried"]))
    assert await world.claim() == {}
    await world.live(SessionStep.RESUME)
    assert set(await world.claim()) == {"given back", "retried"}


@pytest.mark.parametrize("step", [SessionStep.PAUSE, SessionStep.RESUME])
async def test_a_release_under_way_that_saw_the_session_before_the_step(world: World, step: SessionStep) -> None:
    """A release has read the status when the step is taken, and commits after what follows has begun."""
    [held] = await world.begin(task("t"))
    if step is SessionStep.RESUME:
        await world.live(SessionStep.PAUSE)
    commit = Queries("commit")
    seen, go_on = asyncio.Event(), asyncio.Event()

    async def releases(connection: Connection) -> None:
        await connection.fetch(commit.lock_to_release, [held.ticket.task_no], [held.ticket.claim])
        await connection.fetch(commit.release_locked, [held.ticket.task_no])
        seen.set()
        await go_on.wait()
        await connection.execute("insert into session_counts values ($1, 2, -1), ($1, 1, 1)", held.ticket.session_no)

    releasing = asyncio.create_task(world.database.transaction(releases))
    await seen.wait()
    _, sweep = await take(world.database, held.ticket.session_no, step)
    assert sweep is not None
    following = asyncio.create_task(whole(follow(world.database, sweep)))
    await until_one_waits_or(world, following)
    go_on.set()
    await releasing
    await following
    assert set(await world.claim()) == ({"t"} if step is SessionStep.RESUME else set())


async def until_one_waits_or(world: World, work: "asyncio.Task[Changes]") -> None:
    """Until a statement waits for a lock, or the work is done without waiting."""
    waiting = asyncio.create_task(until_one_waits(world))
    await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
