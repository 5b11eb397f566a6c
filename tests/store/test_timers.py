"""Timers: tasks that wait for their time, tasks that are ended at their deadline, and what may cross with either."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import SessionStep
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.database import turns
from ripieno.store.graph import timers
from ripieno.store.reading.timers import timers_of
from ripieno.store.submitting.submission import submit
from store.world import World, done, failed, over, task, until_one_waits


def timed(*, retries: int = 2, **more: str) -> TaskOptions:
    """Options with entries of the system's, whose names are given without what they all begin with."""
    free = {f"ripieno.{name}".replace("retry_", "retry."): text for name, text in more.items()}
    return TaskOptions(10_000_000, retries, 50, free)


async def in_seconds(world: World) -> list[tuple[str, int, int]]:
    """Each timer: its task, its kind, and in how many seconds it is due."""
    rows = await world.rows(
        "select t.id, i.kind, ceil(extract(epoch from i.due_at - now()))::integer"
        " from timers i join tasks t using (task_no) order by 1, 2"
    )
    return [(str(name), int(str(kind)), int(str(seconds))) for name, kind, seconds in rows]


async def test_a_delayed_task_waits_for_its_time_and_then_for_an_agent(world: World) -> None:
    changes = await world.submit(task("a", "k"), of=timed(delay="3600"))
    assert changes.due_in_s == 3600
    assert await world.statuses("a") == ["SUBMITTED"] and await world.claim() == {}
    assert await in_seconds(world) == [("a", 1, 3600)]
    assert (await world.fire()).partitions == set() and await world.claim() == {}
    fired = await world.fire(everything=True)
    assert fired.partitions == {""} and fired.sessions == {await world.number()}
    assert await in_seconds(world) == []
    await world.run(a="k")


async def test_a_delay_of_nothing_is_none(world: World) -> None:
    await world.submit(task("a", "k"), of=timed(delay="0.0"))
    assert await in_seconds(world) == []
    await world.run(a="k")


@pytest.mark.parametrize("first", ["its input", "its time"])
async def test_a_delayed_task_waits_for_its_inputs_too(world: World, first: str) -> None:
    await world.submit(task("a", "k"))
    await world.submit(task("b", "l", needs=["k"]), of=timed(delay="60"))
    if first == "its input":
        await world.run(a="k")
        assert await world.claim() == {}
        await world.fire(everything=True)
    else:
        assert (await world.fire(everything=True)).partitions == set()
        await world.run(a="k")
    await world.run(b="l")


async def test_the_defaults_of_a_session_have_timers_too(world: World) -> None:
    await world.session("t", timed(delay="60", deadline="90"))
    await world.submit(task("a", "k"), session_id="t")
    assert await in_seconds(world) == [("a", 1, 60), ("a", 2, 90)]


async def test_sub_tasks_have_timers(world: World) -> None:
    [claimed] = await world.begin(task("a", "k"))
    changes = await world.commit(done(claimed, {}, [task("b", "k")], timed(delay="60", deadline="90")))
    assert changes.due_in_s == 60
    assert await in_seconds(world) == [("b", 1, 60), ("b", 2, 90)] and await world.claim() == {}
    await world.rows("update timers set due_at = now() where kind = 1")
    await world.fire()
    await world.run(b="k")


async def test_the_same_submission_again_sets_no_timer(world: World) -> None:
    call = await world.call([task("a", "k")], of=timed(delay="60"))
    for _ in range(2):
        assert (await submit(world.database, [call]))[0] == [None]
    assert len(await in_seconds(world)) == 1


async def test_a_cancelled_task_is_not_promoted(world: World) -> None:
    await world.submit(task("a", "k"), task("b", "l"), of=timed(delay="60"))
    await world.cancel("a")
    assert (await world.fire(everything=True)).partitions == {""}
    assert await in_seconds(world) == [] and await world.statuses("a", "b") == ["CANCELLED", "SUBMITTED"]


async def test_a_delayed_task_fails_with_its_input_and_is_revived_before_and_after_its_time(world: World) -> None:
    await world.submit(task("a", "k"))
    await world.submit(task("b", "l", needs=["k"]), of=timed(delay="60"))
    for due in (False, True):
        [claimed] = (await world.claim()).values()
        await world.commit(failed(claimed, "no", Failure.OUTPUT))
        assert await world.statuses("a", "b") == ["ERROR", "ERROR"]
        if due:
            await world.fire(everything=True)
        assert await world.retry("a") == ["a"]
        assert await world.rows("select unmet from states order by task_no") == [(0,), (1 if due else 2,)]
    await world.run(a="k")
    await world.run(b="l")


async def test_a_paused_session_lets_time_pass(world: World) -> None:
    await world.submit(task("a", "k"), of=timed(delay="60"))
    await world.live(SessionStep.PAUSE)
    assert (await world.fire(everything=True)).partitions == set()
    assert await world.claim() == {}
    await world.live(SessionStep.RESUME)
    await world.run(a="k")


@pytest.mark.parametrize("step", [SessionStep.CLOSE, SessionStep.CANCEL, SessionStep.DELETE])
async def test_timers_of_a_session_that_goes_on_in_its_life(world: World, step: SessionStep) -> None:
    await world.submit(task("a", "k"), of=timed(delay="60", deadline="90"))
    if step is SessionStep.DELETE:
        await world.cancel_session()
    await world.live(step)
    if step is SessionStep.DELETE:
        assert await in_seconds(world) == []
        return
    await world.fire(everything=True)
    assert await in_seconds(world) == []
    assert await world.statuses("a") == ["TIMEOUT" if step is SessionStep.CLOSE else "CANCELLED"]
    await world.live(SessionStep.PURGE)


async def test_attempts_back_off(world: World) -> None:
    """Each delay is the factor times the one before, up to the longest; somebody who asks for a retry begins anew."""
    of = timed(retries=4, retry_first_delay="10", retry_factor="3", retry_max_delay="100")
    await world.submit(task("a", "k"), of=of)
    for round_, last in ((0, 4), (5, 9)):
        for retry, delay in enumerate((10, 30, 90, 100), round_):
            [claimed] = (await world.claim()).values()
            assert claimed.retry == retry
            changes = await world.commit(failed(claimed))
            assert changes.partitions == set() and changes.due_in_s == pytest.approx(delay)
            assert await in_seconds(world) == [("a", 1, delay)]
            assert await world.statuses("a") == ["SUBMITTED"] and await world.claim() == {}
            assert (await world.fire(everything=True)).partitions == {""}
        [claimed] = (await world.claim()).values()
        await world.commit(failed(claimed))
        assert await world.statuses("a") == ["ERROR"] and last == claimed.retry
        assert await world.retry("a") == ["a"] and await in_seconds(world) == []
    await world.run(a="k")


async def test_very_many_failures_are_no_overflow(world: World) -> None:
    [(delay,)] = await world.rows(
        "select delay_before_attempt('{\"ripieno.retry.first_delay\": \"1\"}', 2147483647) between interval '999999990 seconds' and interval '999999999 seconds'"
    )
    assert delay is True


async def test_jitter_shortens_a_delay_by_a_part_of_it(world: World) -> None:
    rows = await world.rows(
        "select extract(epoch from delay_before_attempt("
        '\'{"ripieno.retry.first_delay": "10", "ripieno.retry.jitter": "0.5"}\', 1))::float8'
        " from generate_series(1, 200)"
    )
    seconds = [float(str(each)) for (each,) in rows]
    assert 5 <= min(seconds) < 7 and 8 < max(seconds) <= 10


async def test_texts_of_a_release_before_are_no_timers(world: World) -> None:
    for text in ("soon", "-1", "1e3", "", "2027-01-31"):
        [row] = await world.rows(
            "select start_of(j) is null, deadline_of(j) is null, delay_before_attempt(j, 1) is null"
            " from jsonb_build_object('ripieno.delay', $1::text, 'ripieno.deadline', $1::text,"
            " 'ripieno.retry.first_delay', $1::text) as j",
            text,
        )
        assert row == (True, True, True)


async def test_a_lost_attempt_waits_as_well_and_one_that_is_given_back_does_not(world: World) -> None:
    await world.submit(task("a", "k"), of=timed(retry_first_delay="10"))
    [claimed] = (await world.claim()).values()
    await release_if_owned(world.database, [claimed.ticket])
    assert await in_seconds(world) == []
    [claimed] = (await world.claim()).values()
    await world.commit(failed(claimed, "agent 'x' was lost"))
    assert await in_seconds(world) == [("a", 1, 10)]


async def test_a_waiting_task_is_ended_at_its_deadline(world: World) -> None:
    await world.submit(task("x", "kx"))
    await world.submit(task("a", "k", needs=["kx"]), of=timed(deadline="60"))
    await world.submit(task("b", "l", needs=["k"]))
    assert (await world.fire()).sessions == set()
    changes = await world.fire(everything=True)
    assert changes.aborted == {await world.number(): ["k", "l"]} and changes.stopped == {await world.number()}
    assert await world.statuses("x", "a", "b") == ["SUBMITTED", "TIMEOUT", "ERROR"]
    [(status, reason)] = await world.reasons("a")
    assert (
        status == "TIMEOUT" and reason.startswith("its deadline (20") and reason.endswith("Z) passed while it waited")
    )
    [(_, reason)] = await world.reasons("b")
    assert "task 'a' ended in TIMEOUT: its deadline (" in reason
    await world.run(x="kx")
    assert await world.claim() == {}


@pytest.mark.parametrize("outcome", ["over", "done", "failed"])
async def test_a_running_task_is_ended_at_its_deadline_whatever_its_attempt_says(world: World, outcome: str) -> None:
    await world.submit(task("a", "k"), of=timed(deadline="60"))
    await world.submit(task("b", "l", needs=["k"]))
    [claimed] = (await world.claim()).values()
    changes = await world.fire(everything=True)
    assert changes.cancelled == [(claimed.agent_no, claimed.ticket)]
    assert await world.statuses("a", "b") == ["CANCELLING", "ERROR"] and await world.results("k") == ["ABORTED"]
    [(status, reason)] = await world.reasons("a")
    assert status == "TIMEOUT" and "passed while it was dispatched" in reason
    ends = {"over": over(claimed.ticket), "done": done(claimed, {"k": b""}), "failed": failed(claimed)}
    await world.commit(ends[outcome])
    assert await world.statuses("a", "b") == ["TIMEOUT", "ERROR"]
    assert await world.reasons("a") == [(status, reason)]
    assert await in_seconds(world) == []


async def test_a_moment_is_a_deadline(world: World) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    await world.submit(task("a"), of=timed(deadline=at.isoformat()))
    await world.submit(task("b"), of=timed(deadline=f"{at:%Y-%m-%dT%H:%M:%S}.5Z"))
    await world.submit(task("c"), of=timed(deadline="2001-02-03T04:05:06-07:30"))
    rows = await world.rows("select due_at from timers order by task_no")
    assert rows == [(at,), (at.replace(microsecond=500_000),), (datetime(2001, 2, 3, 11, 35, 6, tzinfo=UTC),)]
    await world.fire()
    assert await world.statuses("a", "b", "c") == ["SUBMITTED", "SUBMITTED", "TIMEOUT"]
    assert (await world.reasons("c"))[0][1] == "its deadline (2001-02-03T11:35:06.000Z) passed while it waited"


async def test_a_deadline_of_an_ended_task_is_dropped_when_its_time_comes(world: World) -> None:
    await world.submit(task("a", "k"), of=timed(deadline="60"))
    await world.run(a="k")
    assert (await world.fire(everything=True)).stopped == set()
    assert await in_seconds(world) == [] and await world.statuses("a") == ["COMPLETED"]


async def test_a_deadline_while_it_waits_for_another_attempt(world: World) -> None:
    await world.submit(task("a", "k"), of=timed(retry_first_delay="10", deadline="60"))
    [claimed] = (await world.claim()).values()
    await world.commit(failed(claimed))
    assert await in_seconds(world) == [("a", 1, 10), ("a", 2, 60)]
    await world.rows("update timers set due_at = now() where kind = 2")
    await world.fire()
    assert await world.statuses("a") == ["TIMEOUT"] and await in_seconds(world) == []
    assert [status for status, _ in await world.reasons("a")] == ["ERROR", "TIMEOUT"]
    assert await world.retry("a") == ["a"]
    assert await in_seconds(world) == [("a", 2, 60)]
    await world.run(a="k")


async def test_a_retry_counts_the_deadline_anew_and_a_delay_if_it_says_one(world: World) -> None:
    await world.submit(task("x", "kx"))
    await world.submit(task("a", "k", needs=["kx"]), of=timed(delay="50", deadline="60"))
    await world.fire(everything=True)
    await world.run(x="kx")
    assert await world.statuses("a") == ["TIMEOUT"]
    assert await world.retry("a") == ["a"]
    assert await in_seconds(world) == [("a", 2, 60)]
    await world.fire(everything=True)
    assert await world.retry("a", of=timed(delay="20", deadline="70"), delayed=True) == ["a"]
    assert await in_seconds(world) == [("a", 1, 20), ("a", 2, 70)] and await world.claim() == {}
    await world.rows("update timers set due_at = now() where kind = 1")
    await world.fire()
    await world.run(a="k")


async def test_a_revived_task_has_its_deadline_again(world: World) -> None:
    await world.submit(task("a", "k"))
    await world.submit(task("b", "l", needs=["k"]), of=timed(deadline="60"))
    [claimed] = (await world.claim()).values()
    await world.commit(failed(claimed, "no", Failure.OUTPUT))
    await world.fire(everything=True)
    assert await in_seconds(world) == [] and await world.statuses("b") == ["ERROR"]
    await world.retry("a")
    assert await in_seconds(world) == [("b", 2, 60)]
    await world.fire(everything=True)
    assert await world.statuses("b") == ["TIMEOUT"]


async def test_the_timers_of_tasks_are_told(world: World) -> None:
    await world.submit(task("a"), of=timed(delay="50", deadline="60"))
    await world.submit(task("b"), of=timed(deadline="60"))
    await world.submit(task("c"))
    numbers = [int(str(number)) for (number,) in await world.rows("select task_no from tasks order by 1")]
    told = await timers_of(world.database, numbers)
    assert list(told) == numbers[:2]
    starts_at, deadline = told[numbers[0]]
    assert starts_at is not None and deadline is not None and deadline - starts_at == timedelta(seconds=10)
    assert told[numbers[1]].starts_at is None and told[numbers[1]].deadline is not None


async def test_the_next_timer_is_the_earliest_of_both_kinds(world: World) -> None:
    assert await timers.next_due(world.database) is None
    await world.submit(task("a"), of=timed(delay="3600"))
    assert await timers.next_due(world.database) == pytest.approx(3600, abs=300)
    await world.submit(task("b"), of=timed(deadline="60.5"))
    assert await timers.next_due(world.database) == pytest.approx(60, abs=50)
    await world.rows("update timers set due_at = now() - interval '5 seconds' where kind = 2")
    due_in_s = await timers.next_due(world.database)
    assert due_in_s is not None and due_in_s <= -5


async def test_many_deadlines_take_several_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_SMALLEST", 4)
    monkeypatch.setattr(turns, "_LARGEST", 4)
    world.database.turns.size = 4
    names = [f"a{n}" for n in range(9)]
    await world.submit(*(task(name, f"{name}-1", f"{name}-2") for name in names), of=timed(deadline="60"))
    await world.submit(*(task(f"after {name}", needs=[f"{name}-2"]) for name in names))
    await world.fire(everything=True)
    assert await world.statuses(*names) == ["TIMEOUT"] * 9
    assert await world.statuses(*(f"after {name}" for name in names)) == ["ERROR"] * 9


async def test_timers_that_another_replica_is_firing_are_left_to_it(world: World) -> None:
    await world.submit(task("a", "k"), task("b", "l"), of=timed(delay="60"))
    await world.rows("update timers set due_at = now() - interval '1 second'")
    sessions = await timers.due_sessions(world.database)
    async with world.database.connection() as other, other.raw.transaction():
        await other.fetch("select from timers where task_no = (select min(task_no) from timers) for update")
        async with asyncio.timeout(10):
            async for _ in timers.fire(world.database, sessions):
                pass
        assert list(await world.claim()) == ["b"]
    await world.fire()
    assert list(await world.claim()) == ["a"]


async def test_a_deadline_waits_for_a_claim_that_is_under_way(world: World) -> None:
    """The attempt that began meanwhile is interrupted."""
    await world.submit(task("a", "k"), of=timed(deadline="60"))
    await world.rows("update timers set due_at = now() - interval '1 second'")
    async with world.database.connection() as claims, claims.raw.transaction():
        await claims.fetch("update states set status = 2, claim = 5, agent_no = 7, claimed_at = now()")
        firing = asyncio.create_task(world.fire())
        await until_one_waits(world)
        await claims.fetch(
            "insert into session_counts select session_no, change.status, change.sign from states,"
            " (values (1::smallint, -1), (2::smallint, 1)) as change (status, sign)"
        )
        await claims.fetch(
            "insert into changes (session_no, kind, status, task_nos)"
            " select session_no, 4, 2, array[task_no] from states"
        )
    changes = await firing
    assert [ticket.claim for _, ticket in changes.cancelled] == [5]
    await world.commit(over(changes.cancelled[0][1]))
    assert await world.statuses("a") == ["TIMEOUT"]
