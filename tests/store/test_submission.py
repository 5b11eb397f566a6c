"""Submission: atomic, idempotent by ids, and one caller's fault is never another's."""

import asyncio

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidRequestError,
    InvariantError,
    NotFoundError,
    SessionCancelledError,
)
from ripieno.domain.submission import NewTask
from ripieno.store.submitting.submission import submit
from store.world import OPTIONS, World, done, options, task

ODD = ['quote"', "back\\slash", "NULL", "{brace}", "comma,", " spaced ", "ключ", "%s", "$1", "new\nline"]


async def test_a_call_makes_tasks_and_results_visible(world: World) -> None:
    changes = await world.submit(task("a", "ka"), task("b", "kb1", "kb2"))
    assert await world.statuses("a", "b") == ["SUBMITTED", "SUBMITTED"]
    assert await world.results("ka", "kb1", "kb2") == ["CREATED"] * 3
    assert await world.owner("kb2") == "b"
    assert changes.sessions == {await world.number()}
    assert changes.partitions == {""}


async def test_what_was_submitted_is_what_is_claimed(world: World) -> None:
    inputs = [f"in {key}" for key in ODD]
    [feed] = await world.begin(task("feed", *inputs))
    await world.commit(done(feed, dict.fromkeys(inputs, b"")))
    [claimed] = await world.begin(task('odd "task" \\ %', *ODD, needs=[*inputs, inputs[0]], payload=b"\0\xff"))
    assert list(claimed.expected_output_keys) == ODD
    assert list(claimed.data_dependencies) == [*inputs, inputs[0]]
    assert claimed.payload == b"\0\xff"
    assert await world.claims.options([claimed.options_no]) == {claimed.options_no: OPTIONS}


async def test_a_task_may_make_nothing_and_carry_nothing(world: World) -> None:
    [claimed] = await world.begin(task("a", payload=b""))
    assert claimed.payload == b""
    assert list(claimed.expected_output_keys) == []
    await world.commit(done(claimed))
    assert await world.statuses("a") == ["COMPLETED"]


async def test_options_given_replace_the_default_as_a_whole(world: World) -> None:
    own = options(retries=0, priority=99, partition="gpu", word="ünï")
    await world.submit(task("a", "ka"), of=own)
    claimed = (await world.claim(partition="gpu"))["a"]
    assert (await world.claims.options([claimed.options_no]))[claimed.options_no] == own


async def test_equal_options_are_stored_once(world: World) -> None:
    for name in ("a", "b"):
        await world.submit(task(name), of=options(word="x"))
    await World(world.database).submit(task("c"), of=options(word="x"))
    await world.submit(task("d"), of=OPTIONS)
    assert await world.rows("select count(*) from options") == [(2,)]


@pytest.mark.parametrize(
    "again",
    [
        task("a", "ka", needs=["x"], payload=b"other"),
        task("a", "other", needs=["x"]),
        task("a", "ka", needs=["y"]),
        task("a", "ka", needs=["x", "x"]),
        task("a"),
    ],
)
async def test_a_taken_id_is_refused_and_the_original_untouched(world: World, again: NewTask) -> None:
    await world.submit(task("a", "ka", needs=["x"]))
    with pytest.raises(AlreadyExistsError, match=r"'a'|'ka'"):
        await world.submit(again, task("b", "kb"))
    assert await world.statuses("a", "b") == ["SUBMITTED", "-"]
    assert await world.results("ka", "other", "kb") == ["CREATED", "-", "-"]


async def test_a_key_of_another_task_is_refused(world: World) -> None:
    await world.submit(task("a", "ka"))
    with pytest.raises(AlreadyExistsError, match="result keys already taken: 'ka'; nothing was created"):
        await world.submit(task("b", "kb", "ka"))
    assert await world.statuses("b") == ["-"]
    assert await world.results("kb") == ["-"]


async def test_the_first_ten_clashes_are_named(world: World) -> None:
    await world.submit(*(task(f"t{n:02}") for n in range(12)))
    with pytest.raises(AlreadyExistsError, match=r"'t00', .*'t09' and 2 more; nothing was created"):
        await world.submit(*(task(f"t{n:02}", payload=b"other") for n in range(12)))


async def test_the_same_key_in_two_sessions_is_two_results(world: World) -> None:
    await world.session("other")
    await world.submit(task("a", "k"))
    await world.submit(task("b", "k"), session_id="other")
    assert await world.owner("k") == "a"
    assert await world.owner("k", "other") == "b"


async def test_an_id_is_taken_across_sessions(world: World) -> None:
    await world.session("other")
    await world.submit(task("a"))
    with pytest.raises(AlreadyExistsError, match="task ids already taken: 'a'"):
        await world.submit(task("a"), session_id="other")


async def test_an_identical_call_again_is_a_success_that_changes_nothing(world: World) -> None:
    call = [task("a", "ka", needs=["x", "x"]), task("b", "kb", payload=b"")]
    await world.submit(*call)
    changes = await world.submit(*call)
    assert changes.sessions == set()
    claimed = (await world.claim())["b"]
    await world.commit(done(claimed, {"kb": b"1"}))
    await world.submit(*call)
    await world.cancel_session()
    await world.submit(*call)
    assert await world.statuses("a", "b") == ["CANCELLED", "COMPLETED"]


async def test_an_identical_call_with_other_options_is_a_clash(world: World) -> None:
    await world.submit(task("a"))
    with pytest.raises(AlreadyExistsError):
        await world.submit(task("a"), of=options(priority=1))
    await world.submit(task("a"), of=OPTIONS)  # the session's default, spelled out


async def test_a_part_of_an_earlier_call_is_identical_but_more_is_not(world: World) -> None:
    await world.submit(task("a", "ka"), task("b", "kb"))
    await world.submit(task("b", "kb"))
    with pytest.raises(AlreadyExistsError):
        await world.submit(task("b", "kb"), task("c", "kc"))
    assert await world.statuses("c") == ["-"]


async def test_identical_calls_at_once_all_succeed(world: World) -> None:
    async def one() -> None:
        await World(world.database).submit(*(task(f"t{n}", f"k{n}", needs=["x"]) for n in range(20)))

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(one())
    assert await world.rows("select count(*) from tasks") == [(20,)]
    assert world.database.crossings == 0


async def test_calls_in_one_flush_do_not_share_their_faults(world: World) -> None:
    await world.session("gone")
    await world.cancel_session("gone")
    calls = [
        await world.call([task("a", "ka")]),
        await world.call([task("b", "ka")]),  # the key of the first
        await world.call([task("c")], "gone"),
        await world.call([task("a", "ka")]),  # the first, again
        await world.call([task("d", "kd", needs=["ka"])]),
    ]
    faults, changes = await submit(world.database, calls)
    assert [type(fault) for fault in faults] == [
        type(None), AlreadyExistsError, SessionCancelledError, type(None), type(None),
    ]  # fmt: skip
    assert await world.statuses("a", "b", "c", "d") == ["SUBMITTED", "-", "-", "SUBMITTED"]
    assert changes.sessions == {await world.number()}


async def test_a_cancelled_session_takes_no_more(world: World) -> None:
    await world.cancel_session()
    with pytest.raises(SessionCancelledError, match="session 's' is cancelled"):
        await world.submit(task("a", "ka"))
    assert await world.results("ka") == ["-"]


async def test_an_unknown_session_is_named(world: World) -> None:
    with pytest.raises(NotFoundError, match="session 'nowhere' does not exist"):
        await world.submit(task("a"), session_id="nowhere")


async def test_a_large_payload_whose_object_is_gone_is_refused(world: World) -> None:
    gone = StoredObject("no/such", 5, b"digest")
    with pytest.raises(ConflictError, match="large data are gone"):
        await world.submit(task("a", "ka", payload=gone), task("b"))
    assert await world.statuses("a", "b") == ["-", "-"]


async def test_a_session_id_is_taken_for_good(world: World) -> None:
    assert not await world.sessions.create("s", OPTIONS)
    await world.cancel_session()
    assert not await world.sessions.create("s", OPTIONS)
    assert await world.rows("select count(*) from options") == [(1,)]


@pytest.mark.parametrize(("state", "kind"), [("22003", InvalidRequestError), ("42804", InvariantError)])
@pytest.mark.parametrize("needs", [[], ["k"]], ids=["plain", "careful"])
async def test_what_the_database_does_not_take_of_one_call_is_no_fault_of_others(
    world: World, state: str, kind: type[Exception], needs: list[str]
) -> None:
    await world.submit(task("first", "k"))
    async with world.database.connection() as connection:
        await connection.execute(f"""
            create function refuse() returns trigger language plpgsql as $$
            begin raise exception 'no' using errcode = '{state}'; end $$;
            create trigger refuse before insert on tasks for each row when (new.id = 'bad') execute function refuse()
        """)
    calls = [await world.call([task(name, needs=needs)]) for name in ("a", "bad", "b")]
    faults, changes = await submit(world.database, calls)
    assert faults[0] is None and isinstance(faults[1], kind) and faults[2] is None
    assert changes.sessions == {await world.number()}
    assert await world.statuses("a", "bad", "b") == ["SUBMITTED", "-", "SUBMITTED"]
    await world.rows("drop trigger refuse on tasks")
