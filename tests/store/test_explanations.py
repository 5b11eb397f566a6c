"""Why a task is where it is: each reason, from the state of the store that is its cause."""

import time
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

import pytest
import pytest_asyncio

from ripieno.domain import explanations
from ripieno.domain.errors import NotFoundError
from ripieno.domain.explanations import (
    KINDS,
    Cancelled,
    Cancelling,
    ChainLink,
    Deadline,
    Done,
    Explanation,
    Failed,
    HandedOver,
    InputFailed,
    MissingInput,
    NotServed,
    OutputMissing,
    Running,
    SessionStands,
    WaitsForInputs,
    WaitsForSlot,
    WaitsForTime,
)
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import ResultStatus, SessionStatus, SessionStep, TaskStatus
from ripieno.store.attempts.attempts import mark_started_if_owned
from ripieno.store.cluster.agents import register_agent
from ripieno.store.database.database import Database
from ripieno.store.reading import explanations as reading
from ripieno.store.reading.explanations import explain_task
from ripieno.store.reading.lists import Lists
from store.test_client_results import Clients
from store.test_deletion import deleted
from store.test_timers import timed
from store.world import World, done, failed, options, over, task

AboutT = TypeVar("AboutT")

TRACEBACK = (
    'Traceback (most recent call last):\n  File "handler.py", line 3, in handler\n    int(x)\nValueError: no number'
)


class Explains:
    """Explains tasks of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lists = Lists(world.database)

    async def __call__(self, task_id: str) -> Explanation:
        return await explain_task(self._world.database, self._lists, task_id)

    async def one(self, task_id: str, kind: type[AboutT]) -> tuple[AboutT, str]:
        """The only reason, which must be of this kind, and its sentence."""
        [reason] = (await self(task_id)).reasons
        assert isinstance(reason.about, kind) and KINDS[reason.kind] is kind
        assert reason.sentence.endswith(".") and "\n" not in reason.sentence
        return reason.about, reason.sentence


@pytest_asyncio.fixture
async def explained(world: World) -> Explains:
    return Explains(world)


async def agent_of(
    database: Database, *partitions: str, slots: int = 1, name: str = "agent 7", lease_s: float = 60
) -> int:
    return await register_agent(
        database, uuid4(), name=name, slots=slots, partitions=list(partitions), version="1", lease_s=lease_s
    )


async def test_there_is_no_such_task(explained: Explains) -> None:
    with pytest.raises(NotFoundError, match="there is no task 'none'; `ripieno task list`"):
        await explained("none")


async def test_inputs_that_nobody_has_made_yet(world: World, explained: Explains) -> None:
    await world.submit(task("maker", "made"))
    await world.submit(task("t", needs=["made", "unannounced", "made"]))
    waits, sentence = await explained.one("t", WaitsForInputs)
    assert waits == WaitsForInputs(
        2,
        [
            MissingInput("made", ResultStatus.CREATED, "maker", TaskStatus.SUBMITTED),
            MissingInput("unannounced", ResultStatus.NAMED, "", None),
        ],
    )
    assert sentence == (
        "It waits for 2 inputs: 'made' (task 'maker' makes it, which is SUBMITTED), 'unannounced' (no task has "
        "announced it); `ripieno explain maker` says what that task waits for."
    )
    await world.run(maker="made")
    waits, sentence = await explained.one("t###1", WaitsForInputs)
    assert (waits.missing, [each.key for each in waits.inputs]) == (1, ["unannounced"])
    assert sentence.endswith("submit a task that has 'unannounced' among its expected outputs.")


async def test_of_many_missing_inputs_the_first_are_named(world: World, explained: Explains) -> None:
    keys = [f"k{number:02}" for number in range(40)]
    await world.submit(task("t", needs=keys))
    waits, sentence = await explained.one("t", WaitsForInputs)
    assert waits.missing == 40
    assert [each.key for each in waits.inputs] == keys[: explanations.MOST_NAMED]
    assert "'k02' (no task has announced it) and 37 more;" in sentence


async def test_nobody_can_announce_an_input_in_a_closed_session(world: World, explained: Explains) -> None:
    await world.submit(task("t", needs=["never"]))
    await world.live(SessionStep.CLOSE)
    inputs, session = (await explained("t")).reasons
    assert isinstance(inputs.about, WaitsForInputs)
    assert session.about == SessionStands("s", SessionStatus.CLOSED)
    assert "`ripieno session cancel s` ends what waits." in session.sentence


async def test_a_partition_that_no_agent_serves(world: World, explained: Explains) -> None:
    await world.submit(task("t"), of=options(partition="gpu"))
    _, sentence = await explained.one("t", NotServed)
    assert "no agent is connected at all" in sentence
    await agent_of(world.database, "cpu", "")
    await agent_of(world.database, "gpu", name="gone", lease_s=-1)
    not_served, sentence = await explained.one("t", NotServed)
    assert not_served == NotServed("gpu", ["", "cpu"])
    assert sentence == (
        "No agent serves partition 'gpu' (served: the default one, 'cpu'); start one with "
        "`ripieno agent --partition gpu`."
    )


async def test_busy_slots_and_the_place_in_line(world: World, explained: Explains) -> None:
    agent = await agent_of(world.database, slots=2)
    await world.submit(*(task(f"b{number}") for number in range(3)))
    assert len(await world.claim(3, agent=agent)) == 3  # one more than it has slots: that one waits there
    await world.submit(task("first"), task("second"), task("t"))
    await world.submit(task("urgent"), of=options(priority=90))
    await world.submit(task("other"), of=options(priority=90, partition="elsewhere"))
    await world.submit(task("not ready", needs=["x"]), of=options(priority=90))
    waits, sentence = await explained.one("t", WaitsForSlot)
    assert waits == WaitsForSlot("", 1, 2, 2, 3)
    assert sentence == (
        "It waits for its turn: all 2 slots of the default partition are busy, and 3 tasks come before it; more agents, "
        "or a higher priority, shorten the wait."
    )
    waits, sentence = await explained.one("urgent", WaitsForSlot)
    assert waits.ahead == 0 and "it is the next" in sentence


async def test_the_place_in_line_is_counted_up_to_a_bound(
    world: World, explained: Explains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_AHEAD", 3)
    await agent_of(world.database)
    await world.submit(*(task(f"t{number}") for number in range(8)))
    await world.submit(*(task(f"u{number}") for number in range(8)), of=options(priority=60))
    assert (await explained.one("t7", WaitsForSlot))[0].ahead == 3


async def test_the_next_task_where_a_slot_is_free(world: World, explained: Explains) -> None:
    await agent_of(world.database, slots=2)
    await world.submit(task("t"))
    waits, sentence = await explained.one("t", WaitsForSlot)
    assert (waits.busy, waits.slots) == (0, 2)
    assert sentence == "It is the next of the default partition, where 2 of 2 slots are free; ask again in a moment."


async def test_sessions_that_hold_tasks_back_or_ended_them(world: World, explained: Explains) -> None:
    await world.submit(task("ready"), task("waits", needs=["x"]))
    await world.live(SessionStep.PAUSE)
    session, sentence = await explained.one("ready", SessionStands)
    assert session.status is SessionStatus.PAUSED
    assert sentence == "Its session 's' is paused; `ripieno session resume s` goes on with it."
    paused, inputs = (await explained("waits")).reasons
    assert isinstance(paused.about, SessionStands) and isinstance(inputs.about, WaitsForInputs)
    await world.cancel_session()
    cancelled, task_too = (await explained("ready")).reasons
    assert cancelled.about == SessionStands("s", SessionStatus.CANCELLED)
    assert isinstance(task_too.about, Cancelled) and not task_too.about.ran


async def test_handed_over_running_and_cancelling(world: World, explained: Explains) -> None:
    agent = await agent_of(world.database)
    await world.submit(task("t"))
    claimed = (await world.claim(1, agent=agent))["t"]
    handed_over, sentence = await explained.one("t", HandedOver)
    assert (handed_over.agent, handed_over.agent_connected) == ("agent 7", True)
    assert sentence.startswith("Agent 'agent 7' has had it for ") and "no worker has begun it;" in sentence

    await mark_started_if_owned(world.database, [(claimed.ticket, int(time.time() * 1e6), "worker-1")])
    running, sentence = await explained.one("t", Running)
    assert (running.agent, running.worker, running.max_duration) == ("agent 7", "worker-1", timedelta(seconds=10))
    assert "by its time limit of 10 s; `ripieno task logs --follow t`" in sentence
    await world.rows("update agents set lease_until = now() - interval '1 s' returning 1")
    silent, sentence = await explained.one("t", Running)
    assert not silent.agent_connected and "is silent" in sentence

    await world.cancel("t")
    cancelling, sentence = await explained.one("t", Cancelling)
    assert cancelling.agent == "agent 7" and "interrupts its worker" in sentence


async def test_a_failure_and_the_attempts_before_it(world: World, explained: Explains) -> None:
    agent = await agent_of(world.database)
    await world.submit(task("t"), of=options(retries=1))
    await world.commit(failed((await world.claim(agent=agent))["t"], "the worker died"))
    again = await explained("t")
    assert isinstance(again.reasons[0].about, WaitsForSlot)
    assert [(each.number, each.status.name, each.reason) for each in again.attempts] == [
        (0, "ERROR", "the worker died")
    ]
    assert (again.attempt, again.attempts_total) == (1, 1)

    await world.commit(failed((await world.claim(agent=agent))["t"], TRACEBACK))
    failure, sentence = await explained.one("t", Failed)
    assert failure == Failed(TaskStatus.ERROR, 2, TRACEBACK, timedelta(seconds=10), by_deadline=False)
    assert sentence == (
        "It failed: the last of its 2 attempts ended in ERROR: ValueError: no number; `ripieno task logs t` shows what "
        "it printed, and `ripieno task retry t` gives it another attempt."
    )
    told = (await explained("t")).attempts
    assert [each.reason for each in told] == ["the worker died", "ValueError: no number"]
    assert told[1].agent == "agent 7" and told[1].worker == "worker-1" and told[1].ended_at is not None


async def test_a_task_that_ran_out_of_time(world: World, explained: Explains) -> None:
    await world.submit(task("t"), of=options(retries=0))
    await world.commit(failed((await world.claim())["t"], "it took longer than 10 s", Failure.TIMEOUT))
    failure, sentence = await explained.one("t", Failed)
    assert failure.status is TaskStatus.TIMEOUT
    assert "within its time limit of 10 s" in sentence and "--max-duration" in sentence


async def test_of_many_attempts_the_latest_are_told(
    world: World, explained: Explains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_ATTEMPTS", 2)
    await world.submit(task("t"), of=options(retries=3))
    for number in range(4):
        await world.commit(failed((await world.claim())["t"], f"why {number}"))
    told = await explained("t")
    assert ([each.number for each in told.attempts], told.attempts_total) == ([2, 3], 4)


async def test_the_chain_down_to_the_first_failure(world: World, explained: Explains) -> None:
    await world.submit(task("a", "ka"), of=options(retries=1))
    await world.submit(task("b", "kb", needs=["ka"]), task("c", needs=["kb"]))
    for _ in range(2):
        await world.commit(failed((await world.claim())["a"], TRACEBACK))
    failure, sentence = await explained.one("c", InputFailed)
    assert failure.chain == [
        ChainLink("c", TaskStatus.ERROR, "kb"),
        ChainLink("b", TaskStatus.ERROR, "ka"),
        ChainLink("a", TaskStatus.ERROR, ""),
    ]
    assert (failure.left_out, failure.retried_since, failure.attempts_total) == (False, False, 2)
    assert [(each.number, each.reason) for each in failure.attempts] == [
        (0, "ValueError: no number"),
        (1, "ValueError: no number"),
    ]
    assert sentence == (
        "It failed without running: input 'kb' was not made: task 'b' failed for want of 'ka': task 'a' ended in ERROR "
        "after 2 attempts: ValueError: no number; `ripieno task retry a` runs that one again, and then this one."
    )


async def test_of_a_long_chain_the_middle_is_left_out(world: World, explained: Explains) -> None:
    await world.submit(task("t00", "k00"), of=options(retries=0))
    for number in range(1, 15):
        await world.submit(task(f"t{number:02}", f"k{number:02}", needs=[f"k{number - 1:02}"]))
    await world.commit(failed((await world.claim())["t00"]))
    failure, sentence = await explained.one("t14", InputFailed)
    assert failure.left_out and failure.chain[0].task_id == "t14" and failure.chain[-1].task_id == "t00"
    assert failure.chain[-1].input == "" and len(failure.chain) < 12
    assert "and so on: task 't00' ended in ERROR" in sentence and "'t03'" not in sentence


async def test_a_first_failure_that_was_cancelled_or_made_too_little(world: World, explained: Explains) -> None:
    await world.submit(task("a", "ka"), task("b", "kb"), task("of a", needs=["ka"]), task("of b", needs=["kb"]))
    await world.cancel("a")
    _, sentence = await explained.one("of a", InputFailed)
    assert "task 'a' was cancelled" in sentence
    await world.commit(done((await world.claim())["b"]))
    _, sentence = await explained.one("of b", InputFailed)
    assert "task 'b' completed without making it" in sentence
    completed, missing = (await explained("b")).reasons
    assert isinstance(completed.about, Done)
    assert missing.about == OutputMissing("kb", ResultStatus.ABORTED, "", purged=False)


async def test_an_output_that_was_passed_on(world: World, explained: Explains) -> None:
    [parent] = await world.begin(task("parent", "k"))
    await world.commit(done(parent, sub_tasks=[task("child", "k")]))
    _, missing = (await explained("parent")).reasons
    assert missing.about == OutputMissing("k", ResultStatus.CREATED, "child", purged=False)
    assert "has not made it yet; `ripieno explain child` says why." in missing.sentence


async def test_outputs_that_are_gone(world: World, explained: Explains) -> None:
    await world.submit(task("t", "k"))
    await world.run(t="k")
    _, sentence = await explained.one("t", Done)
    assert sentence.startswith("It completed in ")
    assert await deleted(world, "k") == ["k"]
    _, missing = (await explained("t")).reasons
    assert missing.about == OutputMissing("k", ResultStatus.DELETED, "", purged=False)
    await world.live(SessionStep.CLOSE)
    await world.live(SessionStep.PURGE)
    _, missing = (await explained("t")).reasons
    assert missing.about == OutputMissing("k", ResultStatus.DELETED, "", purged=True)
    assert "with all data of its session" in missing.sentence


async def test_an_input_that_was_deleted(world: World, explained: Explains) -> None:
    await world.submit(task("a", "ka"))
    await world.run(a="ka")
    assert await deleted(world, "ka") == ["ka"]
    await world.submit(task("t", needs=["ka"]))
    failure, sentence = await explained.one("t", Failed)
    assert failure.attempts == 0 and failure.status is TaskStatus.ERROR
    assert sentence.startswith("It failed without running: input 'ka' is gone: its data was deleted;")


async def test_a_task_that_waits_for_its_time(world: World, explained: Explains) -> None:
    await world.submit(task("t"), of=timed(delay="3600"))
    waits, sentence = await explained.one("t", WaitsForTime)
    assert waits.attempt == 0 and timedelta(minutes=59) < waits.left <= timedelta(hours=1)
    assert sentence.startswith("It waits for its time: from 20") and "from now, it may run;" in sentence
    await world.submit(task("u", needs=["x"]), of=timed(delay="3600"))
    inputs, time_too = (await explained("u")).reasons
    assert isinstance(inputs.about, WaitsForInputs) and inputs.about.missing == 1
    assert isinstance(time_too.about, WaitsForTime)


async def test_the_pause_before_another_attempt(world: World, explained: Explains) -> None:
    await world.submit(task("t"), of=timed(retry_first_delay="60"))
    await world.commit(failed((await world.claim())["t"]))
    waits, sentence = await explained.one("t", WaitsForTime)
    assert waits.attempt == 1 and sentence.startswith("Attempt 1 of it begins after a pause: ")


async def test_a_deadline_that_comes_and_one_that_has_passed(world: World, explained: Explains) -> None:
    await world.submit(task("waits", needs=["x"]), task("runs"), of=timed(deadline="3600"))
    claimed = await world.claim()
    for name in ("waits", "runs"):
        first, deadline = (await explained(name)).reasons
        assert isinstance(first.about, WaitsForInputs | HandedOver)
        assert isinstance(deadline.about, Deadline) and timedelta(minutes=59) < deadline.about.left
        assert "unless it is done by then" in deadline.sentence
    await world.fire(everything=True)
    ended, sentence = await explained.one("waits", Failed)
    assert ended.by_deadline and ended.status is TaskStatus.TIMEOUT and ended.attempts == 0
    assert sentence.startswith("It was ended at its deadline: its deadline (")
    cancelling, sentence = await explained.one("runs", Cancelling)
    assert "its deadline (" in cancelling.reason and sentence.startswith("It is stopped since its deadline (")
    await world.commit(over(claimed["runs"].ticket))
    assert (await explained.one("runs", Failed))[0].by_deadline


async def test_an_input_that_a_client_is_to_upload(world: World, explained: Explains) -> None:
    [key] = await Clients(world).create(None)
    await world.submit(task("t", needs=[key]))
    waits, sentence = await explained.one("t", WaitsForInputs)
    assert waits.inputs == [MissingInput(key, ResultStatus.CREATED, "", None)]
    assert sentence == f"It waits for 1 input: {key!r} (a client is to upload it); upload the data of {key!r}."


async def test_an_input_that_came_just_now(world: World, explained: Explains) -> None:
    [a] = await world.begin(task("a", "ka"))
    await world.submit(task("t", needs=["ka"]))
    await world.commit(done(a, {"ka": b"1"}))
    await world.rows(
        "update states set unmet = 1 where task_no = (select task_no from tasks where id = 't') returning 1"
    )
    _, sentence = await explained.one("t", WaitsForInputs)
    assert sentence.startswith("All its inputs have come")
    await world.rows(
        "update states set unmet = 0 where task_no = (select task_no from tasks where id = 't') returning 1"
    )


async def test_another_failed_input_counts_once_the_first_one_is_retried(world: World, explained: Explains) -> None:
    await world.submit(task("a", "ka"), task("x", "kx"), of=options(retries=0))
    await world.submit(task("t", needs=["ka", "kx"]))
    claimed = await world.claim()
    await world.commit(failed(claimed["a"]), failed(claimed["x"]))
    first, _ = await explained.one("t", InputFailed)
    await world.retry(first.chain[-1].task_id)
    failure, sentence = await explained.one("t", InputFailed)
    other = {"a": "x", "x": "a"}[first.chain[-1].task_id]
    assert (failure.retried_since, failure.chain[-1].task_id) == (False, other)  # the revival has judged it anew
    assert f"task {other!r} ended in ERROR" in sentence


async def test_a_first_failure_that_was_retried_since(world: World, explained: Explains) -> None:
    await world.submit(task("a", "ka"), task("x", "kx"), task("d0", "d0", needs=["ka", "kx"]))
    await world.submit(*(task(f"d{n}", f"d{n}", needs=[f"d{n - 1}"]) for n in range(1, 20)))
    claimed = await world.claim()
    await world.commit(failed(claimed["a"], failure=Failure.OUTPUT))
    await world.commit(failed(claimed["x"], failure=Failure.OUTPUT))
    await world.retry("a")  # what is below stays failed for want of the other one, and so far down nobody notes which
    failure, sentence = await explained.one("d19", InputFailed)
    assert failure.retried_since and failure.reason == "" and failure.chain[-1].task_id == "a"
    assert "task 'a' failed, and was retried since" in sentence


async def test_the_agent_of_long_ago_is_forgotten(world: World, explained: Explains) -> None:
    await world.submit(task("t", "k"))
    await world.run(t="k")  # by an agent that has no row
    completed, sentence = await explained.one("t", Done)
    assert completed.agent == "" and sentence.endswith("on worker 'worker-1'; there is nothing to do.")
