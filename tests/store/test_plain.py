"""The plain way and the careful way come to the same.

Each story is told twice, to a database that goes the plain way wherever it can and to one to
which it is closed; then all tables are compared, and all that the calls returned. (Random
stories: ``stateful/test_two_ways.py``.)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.outcomes import Failure
from ripieno.store.attempts.attempts import mark_started_if_owned, release_if_owned
from ripieno.store.attempts.claim import Claimed
from ripieno.store.database.database import NotPlainError
from ripieno.store.submitting.submission import SubmissionCall, submit, submit_and_claim
from store.contents import contents
from store.twins import Story, Told, Twins, committed, open_twins, submitted, told
from store.world import World, done, failed, options, task, until_one_waits


@pytest_asyncio.fixture
async def twins(database_url: str) -> AsyncIterator[Twins]:
    """With a session ``s`` in each."""
    async with AsyncExitStack() as stack:
        twins = await open_twins(stack, database_url)
        for world in twins:
            await world.session()
        yield twins
        assert [world.database.crossings for world in twins] == [0, 0]


# ------------------------------------------------------------------ what is plain


async def tasks_without_outputs(world: World) -> object:
    first = await submitted(world, await world.call([task("a"), task("b")]))
    claimed = await world.claim()
    return first, await committed(world, *map(done, claimed.values()))


async def tasks_with_several_outputs(world: World) -> object:
    first = await submitted(world, await world.call([task("b", "k3", "k1"), task("a", "k2"), task("c")]))
    claimed = await world.claim()
    ends = [
        done(claimed["b"], {"k1": b"one", "k3": b""}),
        done(claimed["c"]),
        done(claimed["a"], {"k2": bytes(100_000)}),
    ]
    return first, await committed(world, *ends)


async def an_outcome_that_does_not_say_who_ran_it(world: World) -> object:
    await world.submit(task("a"), task("b"))
    claimed = await world.claim()
    await mark_started_if_owned(world.database, [(claimed["a"].ticket, 7_000_000, "noted before")])
    return await committed(world, *(done(each)._replace(worker="", started_at_us=0) for each in claimed.values()))


async def dependencies_inside_the_call(world: World) -> object:
    tasks = [
        task("d", "kd", needs=["kb", "kc"]),
        task("c", "kc", needs=["ka", "ka"]),
        task("b", "kb", needs=["ka"]),
        task("a", "ka"),
        task("e", needs=["kd", "never"]),
        task("f"),
    ]
    story: list[object] = [await submitted(world, await world.call(tasks))]
    while claimed := await world.claim():
        story.append(list(claimed))
        story.append(
            await committed(
                world, *(done(each, dict.fromkeys(each.expected_output_keys, b"v")) for each in claimed.values())
            )
        )
    return story


async def dependencies_on_keys_that_are_open_completed_or_unknown(world: World) -> object:
    await world.submit(task("a", "done"), task("b", "open"), task("c", "waited for"), task("x", needs=["waited for"]))
    claimed = await world.claim()
    await world.commit(done(claimed["a"], {"done": b"1"}))
    first = await submitted(
        world,
        await world.call(
            [
                task("d", needs=["done"]),
                task("e", needs=["open", "done"]),
                task("f", needs=["unknown", "open"]),
                task("g", needs=["waited for", "unknown"]),
                task("h", "kh"),
            ]
        ),
    )
    ready = list(await world.claim())
    second = await committed(world, done(claimed["b"], {"open": b"2"}), done(claimed["c"], {"waited for": b"3"}))
    return first, ready, second, list(await world.claim())


async def several_calls_of_several_sessions_in_one_flush(world: World) -> object:
    await world.session("t")
    calls = [
        await world.call([task("a", "k"), task("b", "kb", needs=["k"])]),
        await world.call([task("c", "k"), task("d", needs=["k", "kb"])], "t"),
        await world.call([task("e", "ke", needs=["kb"])], of=options(retries=0, priority=99)),
        await world.call([task("f", "kb", needs=["ke"])], "t", options(priority=1)),
    ]
    first = await submitted(world, *calls)
    claimed = await world.claim()
    second = await committed(world, done(claimed["c"], {"k": b"t"}), done(claimed["a"], {"k": b"s"}))
    claimed = await world.claim()
    return first, second, list(claimed), await committed(world, done(claimed["b"], {"kb": b"s"}))


async def priorities_and_partitions(world: World) -> object:
    partitioned = [options(priority=priority, partition=name) for priority in (1, 99) for name in ("gpu", "cpu")]
    calls = [
        await world.call([task(f"{n}a", f"k{n}"), task(f"{n}b", needs=[f"k{n}"])], of=of)
        for n, of in enumerate(partitioned)
    ]
    first = await submitted(world, *calls)
    assert await world.claim() == {}
    claimed = await world.claim(partition="gpu")
    second = await committed(world, *(done(claimed[f"{n}a"], {f"k{n}": b"v"}) for n in (0, 2)))
    return first, list(claimed), second, list(await world.claim(partition="gpu"))


async def an_attempt_after_failed_ones(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", needs=["ka"]), of=options(retries=3))
    for _ in range(2):
        await world.commit(failed((await world.claim())["a"], "it broke", Failure.TIMEOUT))
    return await committed(world, done((await world.claim())["a"], {"ka": b"v"})), list(await world.claim())


async def attempts_that_were_released_and_claimed_again(world: World) -> object:
    await world.submit(task("a", "ka"))
    await release_if_owned(world.database, [(await world.claim())["a"].ticket])
    return await committed(world, done((await world.claim())["a"], {"ka": b"v"}))


async def texts_that_need_quoting(world: World) -> object:
    odd = ['"', "\\", "{a,b}", "null", "", " ", "\N{SNOWMAN}", "'; --"]
    tasks = [task(f"t{key}", f"k{key}", f"l{key}", needs=[f"d{key}"], payload=key.encode()) for key in odd]
    makes = [task(f"d{key}", f"d{key}") for key in odd]
    first = await submitted(world, await world.call([*tasks, *makes]))
    claimed = await world.claim()
    return first, await committed(world, *(done(each, {each.task_id: b"v"}) for each in claimed.values()))


async def an_empty_call(world: World) -> object:
    faults, _ = await submit(world.database, [await world.call([])])
    return faults


async def more_than_a_block_of_numbers(world: World) -> object:
    keys = [f"k{n}" for n in range(1_500)]
    await world.submit(*(task(f"t{n}", key) for n, key in enumerate(keys)))
    claimed = await world.claim(2_000)
    return await committed(world, *(done(claimed[f"t{n}"], {key: b"v"}) for n, key in enumerate(keys)))


async def results_that_are_objects(world: World) -> object:
    await world.session("t")
    first = await submitted(
        world,
        await world.call([task("a", "k", "l", "m"), task("b", "kb"), task("c", "kc"), task("d", needs=["l", "kb"])]),
        await world.call([task("e", "k", "kb")], "t"),
    )
    claimed = await world.claim()
    large = {key: await world.stage(key, size) for key, size in {"l": 1 << 40, "b": 65_537, "e": 0, "f": 1}.items()}
    ends = [
        done(claimed["e"], {"k": large["e"], "kb": large["f"]}),
        done(claimed["c"], {"kc": b"few bytes"}),
        done(claimed["a"], {"k": b"1", "l": large["l"], "m": b""}),
        done(claimed["b"], {"kb": large["b"]}),
    ]
    second = await committed(world, *ends)
    return first, second, list(await world.claim()), [await world.data(key) for key in ("k", "l", "m", "kb")]


async def one_result_that_is_an_object(world: World) -> object:
    await world.submit(task("a", "ka"))
    return await committed(world, done((await world.claim())["a"], {"ka": await world.stage("large")}))


PLAIN: Sequence[Story] = [
    tasks_without_outputs,
    tasks_with_several_outputs,
    an_outcome_that_does_not_say_who_ran_it,
    dependencies_inside_the_call,
    dependencies_on_keys_that_are_open_completed_or_unknown,
    several_calls_of_several_sessions_in_one_flush,
    priorities_and_partitions,
    an_attempt_after_failed_ones,
    attempts_that_were_released_and_claimed_again,
    texts_that_need_quoting,
    an_empty_call,
    more_than_a_block_of_numbers,
    one_result_that_is_an_object,
    results_that_are_objects,
]


@pytest.mark.parametrize("story", PLAIN, ids=lambda story: story.__name__)
async def test_what_is_plain_goes_the_plain_way_and_comes_to_the_same(twins: Twins, story: Story) -> None:
    await twins.hear(story)
    assert twins.ways.plain > 0 and twins.ways.refused == 0


# ------------------------------------------------------------------ what is not


async def an_id_that_exists(world: World) -> object:
    await world.submit(task("a", "ka"))
    return await submitted(world, await world.call([task("b", "kb"), task("a", "kc")]))


async def an_id_that_stands_twice_in_a_call(world: World) -> object:
    return await submitted(world, await world.call([task("a", "ka"), task("a", "kb")]))


async def a_key_that_exists(world: World) -> object:
    await world.submit(task("a", "ka"))
    return await submitted(world, await world.call([task("b", "kb"), task("c", "ka")]))


async def a_key_that_exists_beside_dependencies(world: World) -> object:
    await world.submit(task("a", "ka"))
    return await submitted(world, await world.call([task("b", "kb", needs=["ka"]), task("c", "ka")]))


async def a_key_that_stands_twice_in_a_call(world: World) -> object:
    return await submitted(world, await world.call([task("a", "ka"), task("b", "ka")]))


async def a_key_that_stands_twice_in_a_call_with_dependencies(world: World) -> object:
    return await submitted(world, await world.call([task("a", "ka"), task("b", "ka"), task("c", needs=["ka"])]))


async def the_same_call_again(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", needs=["ka"]))
    return await submitted(world, await world.call([task("a", "ka"), task("b", needs=["ka"])]))


async def one_bad_call_beside_good_ones(world: World) -> object:
    await world.submit(task("a", "ka"))
    calls = [await world.call([task(name, f"k{name}", needs=["ka"])]) for name in "bac"]
    return await submitted(world, *calls)


async def a_key_that_somebody_waits_for_already(world: World) -> object:
    await world.submit(task("w", "kw", needs=["ka", "kb"]))
    first = await submitted(world, await world.call([task("a", "ka"), task("b", "kb", "l", needs=["ka"])]))
    claimed = await world.claim()
    return first, list(claimed), await committed(world, done(claimed["a"], {"ka": b"v"}))


async def a_dependency_that_is_aborted(world: World) -> object:
    await world.submit(task("a", "ka"))
    await world.commit(failed((await world.claim())["a"], "root cause", Failure.OUTPUT))
    tasks = [task("b", "kb", needs=["ka"]), task("c", needs=["kb"]), task("d", "kd"), task("e", needs=["kd"])]
    answer = await submitted(world, await world.call(tasks))
    return answer, await world.statuses(*"bcde"), await world.reasons("c")


async def a_cancelled_session(world: World) -> object:
    await world.cancel_session()
    return await submitted(world, await world.call([task("a", "ka")]), await world.call([task("b", needs=["kb"])]))


async def a_cancelled_session_beside_another(world: World) -> object:
    await world.session("t")
    await world.cancel_session()
    return await submitted(world, await world.call([task("a")]), await world.call([task("b")], "t"))


async def a_lost_claim(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    await release_if_owned(world.database, [claimed["a"].ticket])
    again = (await world.claim())["a"]
    first = await committed(world, done(claimed["a"], {"ka": b"late"}), done(claimed["b"], {"kb": b"v"}))
    return first, await world.statuses("a", "b"), await committed(world, done(again, {"ka": b"right"}))


async def a_commit_again(world: World) -> object:
    await world.submit(task("a", "ka"))
    end = done((await world.claim())["a"], {"ka": b"v"})
    return await committed(world, end), await committed(world, end)


async def the_same_attempt_twice_in_a_flush(world: World) -> object:
    await world.submit(task("a", "ka"))
    end = done((await world.claim())["a"], {"ka": b"v"})
    changes, lost = await world.committer.commit([end, end])
    return told(changes), len(lost)


async def a_ticket_of_another_session(world: World) -> object:
    other = await world.session("t")
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    forged = done(claimed["a"], {"ka": b"v"})
    forged = forged._replace(ticket=forged.ticket._replace(session_no=other))
    return await committed(world, forged, done(claimed["b"], {"kb": b"v"}))


async def a_ticket_of_another_session_without_results(world: World) -> object:
    other = await world.session("t")
    await world.submit(task("a"))
    forged = done((await world.claim())["a"])
    answer = await committed(world, forged._replace(ticket=forged.ticket._replace(session_no=other)))
    return answer, await world.statuses("a")


async def a_result_that_is_missing(world: World) -> object:
    await world.submit(task("a", "k", "l"), task("b", "kb", needs=["l"]), task("c", "kc"))
    claimed = await world.claim()
    answer = await committed(world, done(claimed["a"], {"k": b"v"}), done(claimed["c"], {"kc": b"v"}))
    return answer, await world.statuses("a", "b", "c"), await world.results("k", "l", "kb", "kc")


async def a_foreign_key(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    ends = [done(claimed["a"], {"ka": b"1", "kb": b"2"}), done(claimed["b"], {"kb": b"3"})]
    return await committed(world, *ends), await world.statuses("a", "b"), await world.results("ka", "kb")


async def a_foreign_key_in_place_of_the_own(world: World) -> object:
    """As many results as are expected, of two attempts that have swapped them."""
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    ends = [done(claimed["a"], {"kb": b"1"}), done(claimed["b"], {"ka": b"2"})]
    return await committed(world, *ends), await world.statuses("a", "b"), await world.results("ka", "kb")


async def a_key_that_nobody_knows(world: World) -> object:
    await world.submit(task("a"))
    return await committed(world, done((await world.claim())["a"], {"unknown": b"v"}))


async def an_attempt_that_is_being_cancelled(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    await world.cancel("a")
    ends = [done(claimed["a"], {"ka": b"v"}), done(claimed["b"], {"kb": b"v"})]
    return await committed(world, *ends), await world.statuses("a", "b"), await world.results("ka", "kb")


async def an_attempt_without_results_that_is_being_cancelled(world: World) -> object:
    await world.submit(task("a"))
    claimed = (await world.claim())["a"]
    await world.cancel("a")
    return await committed(world, done(claimed)), await world.statuses("a")


async def a_result_that_a_sub_task_has_taken_over(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", needs=["ka"]))
    parent = (await world.claim())["a"]
    await world.commit(done(parent, {}, [task("child", "ka")]))
    late = await committed(world, done(parent, {"ka": b"late"}))
    child = (await world.claim())["child"]
    return late, await committed(world, done(child, {"ka": b"right"})), list(await world.claim())


async def an_object_that_is_gone(world: World) -> object:
    """Fails that attempt, and no other."""
    gone, large = StoredObject("gone", 9, b"digest"), await world.stage("large")
    await world.submit(task("w", needs=["ka"]), *(task(name, f"k{name}") for name in "abc"))
    claimed = await world.claim()
    ends = [
        done(claimed["a"], {"ka": gone}),
        done(claimed["b"], {"kb": large}),
        done(claimed["c"], {"kc": b"v"}),
    ]
    first = await committed(world, *ends)
    again = await world.claim()
    return first, list(again), await committed(world, done(again["a"], {"ka": await world.stage("anew")}))


async def an_object_that_is_gone_at_the_last_attempt(world: World) -> object:
    await world.submit(task("a", "ka"), task("b", needs=["ka"]), of=options(retries=0))
    claimed = await world.claim()
    answer = await committed(world, done(claimed["a"], {"ka": StoredObject("gone", 9, b"digest")}))
    return answer, await world.statuses("a", "b"), await world.reasons("a")


async def an_object_that_is_linked_already(world: World) -> object:
    large = await world.stage("large")
    await world.submit(task("a", "ka", payload=large), task("b", "kb"))
    claimed = await world.claim()
    first = await committed(world, done(claimed["a"], {"ka": large}), done(claimed["b"], {"kb": b"v"}))
    return first, await world.statuses("a", "b")


async def an_object_of_two_attempts(world: World) -> object:
    """The first one gets it."""
    large = await world.stage("large")
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    ends = [done(claimed["b"], {"kb": large}), done(claimed["a"], {"ka": large})]
    return await committed(world, *ends), await world.statuses("a", "b")


async def an_object_of_two_results(world: World) -> object:
    large = await world.stage("large")
    await world.submit(task("a", "k", "l"))
    first = await committed(world, done((await world.claim())["a"], {"k": large, "l": large}))
    return first, await committed(world, done((await world.claim())["a"], {"k": b"1", "l": large}))


async def a_lost_claim_with_an_object(world: World) -> object:
    """Its object stays garbage."""
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    await release_if_owned(world.database, [claimed["a"].ticket])
    late, large = await world.stage("late"), await world.stage("large")
    answer = await committed(world, done(claimed["a"], {"ka": late}), done(claimed["b"], {"kb": large}))
    return answer, await world.rows("select name from staged_objects")


async def an_object_under_a_foreign_key(world: World) -> object:
    large = await world.stage("large")
    await world.submit(task("a", "ka"), task("b", "kb"))
    claimed = await world.claim()
    answer = await committed(world, done(claimed["a"], {"kb": large}), done(claimed["b"], {"kb": b"v"}))
    return answer, await world.rows("select name from staged_objects")


#: A session that has changed, by number; what it has made claimable, completed and aborted.
NOTHING: Told = (set(), set(), {}, set())
NEW: Told = ({1}, {""}, {}, set())
TAKEN_ID = "task ids already taken: 'a'; nothing was created"
TAKEN_KEY = "result keys already taken: 'ka'; nothing was created"
ROOT_CAUSE = "input 'ka' was aborted: task 'a' ended in ERROR: root cause"
GONE = "large data are gone: they were not used within a day of being written, or are in use already; write them again"
CANCELLED = "session 's' is cancelled; create a new session to submit more work"


def large(name: str) -> StoredObject:
    """What ``World.stage`` returned for it."""
    return StoredObject(name, 1_000_000, f"digest of {name}".encode())


def completed(results: dict[str, Data], *partitions: str, aborted: Sequence[int] = ()) -> Told:
    """Results of session 1 were completed."""
    return {1}, set(partitions), {1: dict(results)}, set(aborted)


NOT_PLAIN: Sequence[tuple[Story, object]] = [
    (an_id_that_exists, ([TAKEN_ID], NOTHING)),
    (an_id_that_stands_twice_in_a_call, ([TAKEN_ID], NOTHING)),
    (a_key_that_exists, ([TAKEN_KEY], NOTHING)),
    (a_key_that_exists_beside_dependencies, ([TAKEN_KEY], NOTHING)),
    (a_key_that_stands_twice_in_a_call, ([TAKEN_KEY], NOTHING)),
    (a_key_that_stands_twice_in_a_call_with_dependencies, ([TAKEN_KEY], NOTHING)),
    (the_same_call_again, ([None], NOTHING)),
    (one_bad_call_beside_good_ones, ([None, TAKEN_KEY, None], NEW)),
    (a_key_that_somebody_waits_for_already, (([None], NEW), ["a"], (completed({"ka": b"v"}, ""), []))),
    (
        a_dependency_that_is_aborted,
        (
            ([None], ({1}, {""}, {}, {1})),
            ["ERROR", "ERROR", "SUBMITTED", "SUBMITTED"],
            [("ERROR", f"input 'kb' was aborted: task 'b' ended in ERROR: {ROOT_CAUSE}")],
        ),
    ),
    (a_cancelled_session, ([CANCELLED, CANCELLED], NOTHING)),
    (a_cancelled_session_beside_another, ([CANCELLED, None], ({2}, {""}, {}, set()))),
    (
        a_lost_claim,
        ((completed({"kb": b"v"}), [0]), ["DISPATCHED", "COMPLETED"], (completed({"ka": b"right"}), [])),
    ),
    (a_commit_again, ((completed({"ka": b"v"}), []), (NOTHING, [0]))),
    (the_same_attempt_twice_in_a_flush, (completed({"ka": b"v"}), 1)),
    (a_ticket_of_another_session, (completed({"kb": b"v"}), [0])),
    (a_ticket_of_another_session_without_results, ((NOTHING, [0]), ["DISPATCHED"])),
    (
        a_result_that_is_missing,
        (
            (completed({"k": b"v", "kc": b"v"}, aborted=[1]), []),
            ["COMPLETED", "ERROR", "COMPLETED"],
            ["COMPLETED", "ABORTED", "ABORTED", "COMPLETED"],
        ),
    ),
    (
        a_foreign_key,
        ((completed({"kb": b"3"}, ""), []), ["SUBMITTED", "COMPLETED"], ["CREATED", "COMPLETED"]),
    ),
    (
        a_foreign_key_in_place_of_the_own,
        ((NEW, []), ["SUBMITTED", "SUBMITTED"], ["CREATED", "CREATED"]),
    ),
    (a_key_that_nobody_knows, (NEW, [])),
    (
        an_attempt_that_is_being_cancelled,
        ((completed({"kb": b"v"}), []), ["CANCELLED", "COMPLETED"], ["ABORTED", "COMPLETED"]),
    ),
    (an_attempt_without_results_that_is_being_cancelled, ((({1}, set(), {}, set()), []), ["CANCELLED"])),
    (
        an_object_that_is_gone,
        (
            (completed({"kb": large("large"), "kc": b"v"}, ""), []),
            ["a"],
            (completed({"ka": large("anew")}, ""), []),
        ),
    ),
    (
        an_object_that_is_gone_at_the_last_attempt,
        ((({1}, set(), {}, {1}), []), ["ERROR", "ERROR"], [("ERROR", GONE)]),
    ),
    (an_object_that_is_linked_already, ((completed({"kb": b"v"}, ""), []), ["SUBMITTED", "COMPLETED"])),
    (an_object_of_two_attempts, ((completed({"ka": large("large")}, ""), []), ["COMPLETED", "SUBMITTED"])),
    (an_object_of_two_results, ((NEW, []), (completed({"k": b"1", "l": large("large")}), []))),
    (a_lost_claim_with_an_object, ((completed({"kb": large("large")}), [0]), [("late",)])),
    (an_object_under_a_foreign_key, ((completed({"kb": b"v"}, ""), []), [("large",)])),
    (a_result_that_a_sub_task_has_taken_over, ((NOTHING, [0]), (completed({"ka": b"right"}, ""), []), ["b"])),
]


@pytest.mark.parametrize(("story", "answer"), NOT_PLAIN, ids=[story.__name__ for story, _ in NOT_PLAIN])
async def test_what_is_not_plain_is_refused_and_done_the_careful_way(
    twins: Twins, story: Story, answer: object
) -> None:
    assert await twins.hear(story) == answer
    assert twins.ways.refused > 0


async def test_an_attempt_that_is_marked_as_started_while_its_commit_waits(twins: Twins) -> None:
    world = twins.plain
    await world.submit(task("a", "ka"), task("b", needs=["ka"]))
    claimed = (await world.claim())["a"]
    async with world.database.connection() as other:
        await other.execute("begin")
        await other.execute("update states set status = 3 where claim is not null")
        await other.execute("insert into session_counts select session_no, 2, -1 from sessions")
        await other.execute("insert into session_counts select session_no, 3, 1 from sessions")
        commit = asyncio.create_task(world.commit(done(claimed, {"ka": b"v"})))
        await until_one_waits(world)
        await other.execute("commit")
    assert told(await commit) == completed({"ka": b"v"}, "")
    assert await world.statuses("a", "b") == ["COMPLETED", "SUBMITTED"]
    assert list(await world.claim()) == ["b"]


async def test_tasks_whose_outputs_nobody_counted(twins: Twins) -> None:

    async def story(world: World) -> object:
        await world.submit(task("a", "k", "l"), task("b", needs=["l"]))
        await world.database.fetch("update states set outputs = null")
        first = await committed(world, done((await world.claim())["a"], {"k": b"1", "l": b"2"}))
        return first, await committed(world, done((await world.claim())["b"]))

    await twins.hear(story)
    assert twins.ways.refused == 2


async def test_an_uncounted_task_does_not_make_up_for_one_that_made_too_little(twins: Twins) -> None:
    """In one flush: two errors that cancel out in the sum."""

    async def story(world: World) -> object:
        await world.submit(task("new", "kn"), task("old", "ko"))
        await world.database.fetch(
            "update states set outputs = null where task_no = (select task_no from tasks where id = 'old')"
        )
        claimed = await world.claim()
        return await committed(world, done(claimed["new"]), done(claimed["old"], {"ko": b"1"}))

    await twins.hear(story)
    assert twins.ways.refused == 1


async def test_a_commit_waits_for_a_collection_under_way(twins: Twins) -> None:
    """And learns what came of it: its object is gone, or is kept after all."""
    world = twins.plain
    await world.submit(task("a", "ka"))
    for end, status in (("delete from staged_objects; commit", "SUBMITTED"), ("rollback", "COMPLETED")):
        claimed, stored = (await world.claim())["a"], await world.stage(end)
        async with world.database.connection() as other:
            await other.execute("begin")
            await other.execute("select from staged_objects for update")
            commit = asyncio.create_task(world.commit(done(claimed, {"ka": stored})))
            await until_one_waits(world)
            await other.execute(end)
        await commit
        assert await world.statuses("a") == [status]


# ------------------------------------------------------------------ claimed as they are created


async def test_tasks_that_are_claimed_as_they_are_created(twins: Twins) -> None:
    """As if they had been submitted, and claimed by the same agents a moment later."""
    calls = [[task("b", "kb", "l"), task("a", "ka")], [task("c")]]
    plain, careful = twins
    for world in twins:
        await world.session("t")

    async def of(world: World) -> list[SubmissionCall]:
        return [await world.call(calls[0], of=options(retries=1)), await world.call(calls[1], "t")]

    changes, born = await submit_and_claim(plain.database, await of(plain), [7, 8, 7])
    await submit(careful.database, await of(careful))
    later = await careful.claims.claim("", [7, 8, 7])
    assert told(changes) == ({1, 2}, set(), {}, set())

    def known(claimed: Sequence[Claimed]) -> list[tuple[object, ...]]:
        return [
            (
                each.ticket.session_no,
                *each[1:5],
                list(each.expected_output_keys),
                list(each.data_dependencies),
                each.payload,
            )
            for each in claimed
        ]

    assert known(born) == known(later)
    assert await contents(plain.database) == await contents(careful.database)
    assert await plain.claim() == {}
    for world, claimed in ((plain, born), (careful, later)):
        results = [{"kb": b"1", "l": b"2"}, {"ka": b"3"}, {}]
        await world.commit(*(done(each, data) for each, data in zip(claimed, results, strict=True)))
    assert await contents(plain.database) == await contents(careful.database)


@pytest.mark.parametrize("clash", ["id", "key", "named key", "session"])
async def test_what_clashes_is_not_claimed_either(twins: Twins, clash: str) -> None:
    world = twins.plain
    await world.submit(task("a", "ka", needs=["named"]))
    tasks = {"id": task("a", "k"), "key": task("b", "ka"), "named key": task("b", "named"), "session": task("b", "k")}
    call = await world.call([task("x", "kx"), tasks[clash]])
    if clash == "session":
        await world.cancel_session()
    before = await contents(world.database)
    with pytest.raises(NotPlainError):
        await submit_and_claim(world.database, [call], [7, 7])
    assert await contents(world.database) == before
