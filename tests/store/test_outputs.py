"""What attempts print: kept by the transaction that ends them, each attempt's apart, and found again."""

import pytest

from ripieno.domain.outcomes import Completions, Failed, Failure, Outcome
from ripieno.domain.output import AttemptOutput
from ripieno.domain.statuses import SessionStep
from ripieno.store.attempts.attempts import release_if_owned
from ripieno.store.attempts.outputs import forget_live_outputs, keep_live_outputs
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.reading.outputs import AttemptState, output_of_attempt
from store.world import AGENT, World, done, failed, over, task

PRINTED = AttemptOutput(b"out \xff\x00", b"err", 10, 2**62)


async def state_of(world: World, task_id: str, attempt: int | None = None) -> AttemptState:
    [found] = (await find_tasks(world.database, [task_id])).values()
    state = await output_of_attempt(world.database, found.task_no, attempt)
    assert state is not None
    return state


async def kept(world: World, task_id: str, attempt: int | None = None) -> AttemptOutput | None:
    return (await state_of(world, task_id, attempt)).output


async def rows(world: World) -> int:
    [row] = await world.database.fetch("select count(*) from attempt_outputs")
    count: int = row[0]
    return count


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "careful"])
async def test_what_a_completed_attempt_printed_is_kept(world: World, plain: bool) -> None:
    loud, silent = await world.begin(task("loud", "a"), task("silent", "b"))
    outcomes = [done(loud, {"a": b"1"})._replace(output=PRINTED), done(silent, {"b": b"2"})]
    if plain:
        columns = Completions.of(outcomes)
        assert columns is not None
        await world.committer.commit_completions(columns)
    else:
        await world.committer._commit_together(outcomes)
    assert await kept(world, "loud") == PRINTED
    assert await kept(world, "silent") is None
    assert await rows(world) == 1


async def test_each_attempt_keeps_its_own(world: World) -> None:
    [first] = await world.begin(task("t", "r"))
    await world.commit(failed(first)._replace(output=AttemptOutput(b"first")))
    [second] = (await world.claim()).values()
    assert await state_of(world, "t") == AttemptState(1, 1, over=False, agent_no=AGENT, ticket=second.ticket)
    await world.commit(failed(second))
    [third] = (await world.claim()).values()
    await world.commit(done(third, {"r": b""})._replace(output=AttemptOutput(b"", b"third")))
    assert await kept(world, "t", 0) == AttemptOutput(b"first")
    assert await kept(world, "t", 1) is None
    assert await kept(world, "t", 2) == await kept(world, "t") == AttemptOutput(b"", b"third")


async def test_an_outcome_that_does_not_count_keeps_nothing(world: World) -> None:
    [first] = await world.begin(task("t", "r"))
    await world.commit(failed(first))
    await world.claim()
    late = done(first, {"r": b""})._replace(output=PRINTED)
    columns = Completions.of([late])
    assert columns is not None
    _, lost = await world.committer.commit_completions(columns)
    assert lost == [first.ticket]
    assert await rows(world) == 0


async def test_a_cancelled_attempt_keeps_what_it_printed(world: World) -> None:
    [claimed] = await world.begin(task("t", "r"))
    await world.cancel("t")
    await world.commit(over(claimed.ticket)._replace(output=PRINTED))
    assert await kept(world, "t") == PRINTED


async def test_what_there_is_to_know_of_an_attempt(world: World) -> None:
    await world.submit(task("t", "r"))
    assert await output_of_attempt(world.database, 1 << 60, None) is None
    assert await state_of(world, "t") == AttemptState(0, 0, over=False)
    assert await state_of(world, "t", 5) == AttemptState(5, 0, over=False)


async def test_what_a_running_attempt_has_printed_is_that_of_its_claim(world: World) -> None:
    """Given back and begun anew under the same number, it has printed nothing yet; at its end only the end counts."""
    [first] = await world.begin(task("t", "r"))
    so_far = AttemptOutput(b"so far")
    await keep_live_outputs(world.database, {first.ticket.claim: AttemptOutput(b"less")})
    await keep_live_outputs(world.database, {first.ticket.claim: so_far})
    state = await state_of(world, "t")
    assert (state.output, state.over, state.ticket) == (so_far, False, first.ticket)
    assert state.written_at is not None
    await release_if_owned(world.database, [first.ticket])
    assert await state_of(world, "t") == AttemptState(0, 0, over=False)
    [second] = (await world.claim()).values()
    assert await kept(world, "t") is None
    await keep_live_outputs(world.database, {second.ticket.claim: so_far})
    await world.commit(done(second, {"r": b""})._replace(output=PRINTED))
    assert await state_of(world, "t") == AttemptState(0, 0, over=True, output=PRINTED)
    await forget_live_outputs(world.database, 3600)
    assert await world.database.fetch("select from live_outputs")
    await forget_live_outputs(world.database, 0)
    assert not await world.database.fetch("select from live_outputs")


async def test_an_attempt_that_is_lost_with_its_agent_leaves_what_followers_were_told(world: World) -> None:
    followed, other = await world.begin(task("followed", "a"), task("other", "b"))
    await keep_live_outputs(world.database, {followed.ticket.claim: PRINTED})
    gone = Failed(Failure.ATTEMPT, "agent 'x' was lost")
    await world.commit(Outcome(followed.ticket, gone), Outcome(other.ticket, gone))
    assert await kept(world, "followed", 0) == PRINTED
    assert await kept(world, "other", 0) is None
    assert await state_of(world, "followed") == AttemptState(1, 1, over=False)


async def test_outputs_go_with_the_data_of_their_session(world: World) -> None:
    other = await world.session("other")
    assert other != await world.number()
    for session_id in ("s", "other"):
        await world.submit(task(f"t of {session_id}", "r"), session_id=session_id)
        [claimed] = (await world.claim()).values()
        await world.commit(done(claimed, {"r": b""})._replace(output=PRINTED))
    await world.live(SessionStep.CLOSE)
    await world.live(SessionStep.PURGE)
    assert await kept(world, "t of s") is None
    assert await kept(world, "t of other") == PRINTED
    await world.live(SessionStep.DELETE)
    assert await rows(world) == 1
