"""The conversation machine: every rule of docs/protocol.md, section 4, and no order that breaks it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.agent.conversation.conversation import MOST_ID_CHARACTERS, MOST_REQUESTS, Conversation
from ripieno.agent.conversation.effects import (
    Answer,
    Completed,
    DataKind,
    DataRequested,
    Effect,
    Failed,
    OutputReceived,
    UploadContinued,
    UploadFinished,
    UploadStarted,
)
from ripieno.agent.conversation.gathering import INLINE_BUDGET_BYTES, Limits
from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Failure
from ripieno.wire.protos.armonik_v2 import objects_pb2
from unit.agent import said

LIMITS = Limits(data_chunk_max_size=100, inline_limit_bytes=50)
Reply = said.ProcessReply


def conversation(*expected: str, limits: Limits = LIMITS) -> Conversation:
    return Conversation("parent", expected or ("a", "b"), limits)


def tell(machine: Conversation, *replies: Reply) -> list[Effect]:
    return [effect for reply in replies for effect in machine.receive(reply)]


def end(machine: Conversation, *replies: Reply) -> Completed:
    *others, last = tell(machine, *replies, said.ok())
    assert not others
    assert isinstance(last, Completed), last
    return last


def violation(machine: Conversation, *replies: Reply) -> str:
    effects = tell(machine, *replies)
    last = effects[-1] if effects else None
    assert isinstance(last, Failed), effects
    assert last.failure is Failure.ATTEMPT
    assert last.detail.startswith("the worker broke the protocol: ")
    return last.detail


def refused(effects: Sequence[Effect]) -> list[str]:
    (answer,) = effects
    assert isinstance(answer, Answer)
    reply = answer.request.create_task.reply
    assert reply.WhichOneof("Data") == "non_successfull_ids"
    return list(reply.non_successfull_ids.ids)


def accepted(effects: Sequence[Effect]) -> bool:
    answer = effects[-1]
    assert isinstance(answer, Answer)
    return answer.request.create_task.reply.HasField("successfull")


# ------------------------------------------------------------------ results and output


def test_one_result_in_chunks() -> None:
    done = end(conversation(), said.begin("a"), said.data(b"x"), said.data(b"yz"), said.complete(), said.last_result())
    assert done.results == [("a", b"xyz")]


def test_a_result_without_data_is_empty() -> None:
    assert end(conversation(), said.begin("a"), said.complete()).results == [("a", b"")]


def test_ok_without_results() -> None:
    assert end(conversation()).results == []


def test_results_one_after_the_other_and_interleaved() -> None:
    machine = conversation("a", "b", "c")
    done = end(
        machine,
        said.begin("a", "1"),
        said.begin("b", "2"),
        said.data(b"B", "2"),
        said.data(b"A", "1"),
        said.complete("2"),
        said.complete("1"),
        said.begin("c", "1"),
        said.data(b"C", "1"),
        said.complete("1"),
        said.last_result("1"),
    )
    assert dict(done.results) == {"a": b"A", "b": b"B", "c": b"C"}


def test_last_result_with_nothing_open_is_fine() -> None:
    end(conversation(), said.last_result(), said.last_result())


def test_output_error_is_final_whatever_is_open() -> None:
    (failed,) = tell(conversation(), said.begin("a"), said.error("boom"))
    assert failed == Failed(Failure.OUTPUT, "boom")


def test_many_expected_outputs() -> None:
    keys = [f"k{number}" for number in range(50)]
    machine = conversation(*keys)
    done = end(machine, *[reply for key in keys for reply in said.result(key, key.encode())])
    assert dict(done.results) == {key: key.encode() for key in keys}


@pytest.mark.parametrize(
    ("replies", "names"),
    [
        ([said.begin("foreign")], "foreign"),
        ([*said.result("a", b""), said.begin("a")], "'a' again: it was sent"),
        ([said.begin("a", "1"), said.begin("a", "2")], "again"),
        ([said.begin("a"), said.begin("b")], "carries result 'a'"),
        ([said.data(b"x")], "no result is open"),
        ([said.complete()], "no result is open"),
        ([said.begin("a"), said.complete(), said.data(b"x")], "no result is open"),
        ([said.begin("a"), said.last_result()], "not yet complete"),
        ([said.begin("a"), said.ok()], "Output ok while 'r' carries result 'a'"),
        ([said.large_begin(), said.ok()], "large submission"),
        ([said.begin("a", "")], "result without request_id"),
        ([said.resource("k", "")], "resource without request_id"),
        ([Reply(request_id="r")], "empty oneof"),
        ([Reply()], "without request_id"),
        ([Reply(request_id="r", result=Reply.Result())], "empty oneof"),
        ([Reply(request_id="r", result=Reply.Result(init=said._Init()))], "empty oneof"),
        ([said.begin("a"), Reply(request_id="r", result=Reply.Result(data=said._Chunk()))], "empty oneof"),
        ([Reply(output=objects_pb2.Output())], "empty oneof"),
        ([Reply(request_id="l", create_large_task=Reply.CreateLargeTaskRequest())], "empty oneof"),
        ([said.begin("a"), said.data(bytes(101))], "101 bytes"),
        ([said.large_header("t", "o")], "before its init_request"),
        ([said.large_begin(), said.large_begin()], "large submission"),
        ([said.large_begin(), said.large_data(b"")], "outside a task"),
        ([said.large_begin(), said.large_header("t", "o"), said.large_header("u", "p")], "inside a task"),
        ([said.large_begin(), said.large_header("t", "o"), said.large_end()], "inside a task"),
        ([said.large_begin(), said.large_header("t", "o"), said.large_data(bytes(101))], "101 bytes"),
        ([said.resource("k", "x"), said.begin("a", "x")], "waits for data"),
        ([said.begin("a", "x"), said.resource("k", "x")], "carries result"),
        ([said.begin("a", "x"), said.small(said.task("t", "o"), request_id="x")], "carries result"),
    ],
)
def test_violations_name_themselves(replies: list[Reply], names: str) -> None:
    assert names in violation(conversation(), *replies)


def test_a_message_after_output_is_a_violation() -> None:
    machine = conversation()
    tell(machine, said.ok())
    assert "after Output" in violation(machine, said.begin("a"))


def test_a_call_that_ends_without_output_is_a_violation() -> None:
    (failed,) = conversation().ended()
    assert isinstance(failed, Failed)
    assert "without Output" in failed.detail
    machine = conversation()
    tell(machine, said.ok())
    assert not machine.ended()


# ------------------------------------------------------------------ large data


def test_data_up_to_the_limit_is_inline_and_more_is_uploaded_as_it_comes() -> None:
    machine = conversation()
    assert tell(machine, *said.result("a", bytes(50))) == []
    assert tell(machine, said.begin("b"), said.data(bytes(30))) == []
    started = tell(machine, said.data(b"x" * 21))
    assert started == [UploadStarted(1), UploadContinued(1, bytes(30)), UploadContinued(1, b"x" * 21)]
    assert tell(machine, said.data(b"y"), said.complete()) == [UploadContinued(1, b"y"), UploadFinished(1)]
    assert tell(machine, said.ok()) == [OutputReceived()]
    stored = StoredObject("name", 52, b"digest")
    (done,) = machine.stored(1, stored)
    assert done == Completed([("a", bytes(50)), ("b", stored)], [])


def test_an_upload_may_be_stored_before_output() -> None:
    machine = conversation()
    tell(machine, said.begin("a"), said.data(bytes(60)), said.complete())
    assert not machine.stored(1, StoredObject("name", 60, b""))
    assert end(machine).results == [("a", StoredObject("name", 60, b""))]


def test_above_the_budget_everything_is_uploaded() -> None:
    limits = Limits(data_chunk_max_size=INLINE_BUDGET_BYTES, inline_limit_bytes=INLINE_BUDGET_BYTES)
    machine = conversation(limits=limits)
    assert tell(machine, *said.result("a", bytes(INLINE_BUDGET_BYTES))) == []
    assert tell(machine, said.begin("b"), said.data(b"x"))[0] == UploadStarted(1)


def test_large_payloads_of_sub_tasks_are_uploaded() -> None:
    machine = conversation()
    effects = tell(machine, said.small(said.task("t", "o", payload=bytes(60)), said.task("u", "p", payload=b"u")))
    assert effects[:3] == [UploadStarted(1), UploadContinued(1, bytes(60)), UploadFinished(1)]
    assert accepted(effects)
    tell(machine, said.large_begin(), *said.large_task("v", "q", payload=bytes(70)), said.large_end(), said.ok())
    first, second = StoredObject("1", 60, b""), StoredObject("2", 70, b"")
    assert not machine.stored(2, second)
    (done,) = machine.stored(1, first)
    assert isinstance(done, Completed)
    payloads = {task.id: task.payload for batch in done.sub_tasks for task in batch.tasks}
    assert payloads == {"t": first, "u": b"u", "v": second}


# ------------------------------------------------------------------ sub-tasks


def test_small_batch() -> None:
    machine = conversation()
    effects = tell(machine, said.small(said.task("t", "o", needs=("n",), payload=b"p"), task_options=said.options(7)))
    assert accepted(effects)
    assert isinstance(effects[-1], Answer)
    assert effects[-1].request.create_task.reply_id == "s"
    (batch,) = end(machine).sub_tasks
    assert batch.options is not None
    assert batch.options.max_duration_us == 7_000_000
    (task,) = batch.tasks
    assert (task.id, task.expected_output_keys, task.data_dependencies, task.payload) == ("t", ("o",), ("n",), b"p")


def test_large_batch() -> None:
    machine = conversation()
    begun = tell(machine, said.large_begin(), *said.large_task("t", "o", payload=b"p"), *said.large_task("u", "q"))
    assert not begun
    assert accepted(tell(machine, said.large_end()))
    (batch,) = end(machine).sub_tasks
    assert batch.options is None
    assert [(task.id, task.payload) for task in batch.tasks] == [("t", b"p"), ("u", b"")]


@pytest.mark.parametrize(
    ("tasks", "offenders"),
    [
        ([said.task("t", "o"), said.task("t", "p")], ["t"]),
        ([said.task("t", "o"), said.task("u", "o")], ["u"]),
        ([said.task("t", "o"), said.task(" ", "p")], [" "]),
        ([said.task("t", " ")], ["t"]),
        ([said.task("parent", "o")], ["parent"]),
        ([said.task("t", "o", payload=bytes(101)), said.task("u", "p")], ["t"]),
    ],
)
def test_refused_small_batches_name_the_offenders_and_leave_no_trace(
    tasks: list[objects_pb2.TaskRequest], offenders: list[str]
) -> None:
    machine = conversation()
    assert refused(tell(machine, said.small(*tasks))) == offenders
    assert end(machine).sub_tasks == []


def test_a_batch_at_fault_itself_names_all() -> None:
    machine = conversation()
    both = [said.task("t", "o"), said.task("u", "p")]
    assert refused(tell(machine, said.small(*both, task_options=said.options(0)))) == ["t", "u"]
    assert refused(tell(machine, said.small(*both, task_options=said.options(priority=100)))) == ["t", "u"]
    assert refused(tell(machine, said.small())) == []
    assert not tell(machine, said.large_begin(task_options=said.options(0)), *said.large_task("t", "o"))
    assert refused(tell(machine, said.large_end())) == ["t"]
    assert refused(tell(machine, said.large_begin(), said.large_end())) == []
    assert accepted(tell(machine, said.small(*both)))


def test_names_of_earlier_batches_are_taken() -> None:
    machine = conversation()
    assert accepted(tell(machine, said.small(said.task("t", "o"))))
    assert refused(tell(machine, said.small(said.task("t", "p"), said.task("u", "q")))) == ["t"]
    assert refused(tell(machine, said.large_begin(), *said.large_task("v", "o"), said.large_end())) == ["v"]
    assert accepted(tell(machine, said.small(said.task("v", "p"))))


def too_much(effects: Sequence[Effect]) -> str:
    """Why an attempt failed that asked for too much; final, since it would ask for the same again."""
    (failed,) = effects
    assert isinstance(failed, Failed)
    assert failed.failure is Failure.OUTPUT
    return failed.detail


FEW = Limits(100, 50, sub_tasks_per_attempt=3, options_bytes=10)


@pytest.mark.parametrize("way", ["small", "large", "both"])
def test_an_attempt_that_asks_for_too_many_sub_tasks_fails_at_the_one_that_is_too_many(way: str) -> None:
    machine = conversation(limits=FEW)
    if way == "large":
        tell(machine, said.large_begin(), *said.large_task("t", "o"), *said.large_task("u", "p"))
    else:
        assert accepted(tell(machine, said.small(said.task("t", "o"), said.task("u", "p"))))
    if way == "small":
        last = said.small(said.task("v", "q"), said.task("w", "r"))
    elif way == "both":
        assert accepted(tell(machine, said.small(said.task("v", "q"))))
        tell(machine, said.large_begin())
        last = said.large_task("w", "r")[0]
    else:
        tell(machine, *said.large_task("v", "q"))
        last = said.large_task("w", "r")[0]
    assert too_much(tell(machine, last)) == (
        "limit sub_tasks_per_attempt is 3, and this attempt asks for more sub-tasks;"
        " create fewer at once, and let them create the others"
    )
    assert machine.said_output


def test_sub_tasks_that_were_refused_do_not_count() -> None:
    machine = conversation(limits=FEW)
    for _ in range(3):
        assert refused(tell(machine, said.small(said.task("t", "o"), said.task("t", "p")))) == ["t"]
        assert refused(tell(machine, said.small(said.task("t", "o"), task_options=said.options(0)))) == ["t"]
        tell(machine, said.large_begin(), *said.large_task("t", "o"), *said.large_task("t", "p"))
        assert refused(tell(machine, said.large_end())) == ["t"]
    assert accepted(tell(machine, said.small(*(said.task(name, f"of {name}") for name in "tuv"))))
    assert sum(len(batch.tasks) for batch in end(machine).sub_tasks) == 3


@pytest.mark.parametrize("way", ["small", "large"])
def test_an_attempt_fails_whose_sub_tasks_have_names_longer_than_a_commit_takes(way: str) -> None:
    machine, number = conversation(), 0
    effects: list[Effect] = []
    while not effects or not isinstance(effects[-1], Failed):
        keys = [f"{number} {place} {'x' * 1_000}" for place in range(1_000)]
        if way == "small":
            effects = tell(machine, said.small(said.task(f"t{number}", *keys)))
        else:
            effects = tell(
                machine, said.large_begin(f"r{number}"), said.large_header(f"t{number}", *keys, request_id=f"r{number}")
            )
        number += 1
        assert number < 30
    assert "than one commit takes (25,165,824)" in too_much(effects)


@pytest.mark.parametrize("way", ["small", "large"])
def test_an_attempt_fails_whose_sub_tasks_have_too_long_options(way: str) -> None:
    machine = conversation(limits=FEW)
    options = said.options()
    options.options["four"] = "x" * 6
    assert accepted(tell(machine, said.small(said.task("t", "o"), task_options=options)))
    options.options["four"] = "ü" * 4
    last = (
        said.small(said.task("u", "p"), task_options=options)
        if way == "small"
        else said.large_begin(task_options=options)
    )
    assert too_much(tell(machine, last)).startswith(
        "limit options_bytes is 10, and this attempt asks for sub-tasks with 12 bytes of options;"
    )


def test_a_refused_large_batch_is_read_to_its_end() -> None:
    machine = conversation()
    assert not tell(machine, said.large_begin(), *said.large_task("t", "o"), *said.large_task("t", "p", payload=b"x"))
    assert not tell(machine, *said.large_task("u", "q", payload=bytes(90)))
    assert refused(tell(machine, said.large_end())) == ["t"]
    assert end(machine).sub_tasks == []


def test_a_large_header_without_outputs_is_refused() -> None:
    assert refused(tell(conversation(), said.large_begin(), *said.large_task("t"), said.large_end())) == ["t"]


def test_delegation_takes_the_key_away() -> None:
    machine = conversation()
    assert accepted(tell(machine, said.small(said.task("t", "a"))))
    assert refused(tell(machine, said.small(said.task("u", "a")))) == ["u"]
    assert "delegated to sub-task 't'" in violation(machine, said.begin("a"))


def test_a_key_that_was_sent_cannot_be_delegated() -> None:
    machine = conversation()
    tell(machine, said.begin("a"))
    assert refused(tell(machine, said.small(said.task("t", "a")))) == ["t"]
    tell(machine, said.complete())
    assert refused(tell(machine, said.small(said.task("t", "a")))) == ["t"]


# ------------------------------------------------------------------ data requests


@pytest.mark.parametrize(
    ("ask", "kind"),
    [(said.resource, DataKind.RESOURCE), (said.common, DataKind.COMMON), (said.direct, DataKind.DIRECT)],
)
def test_data_requests(ask: object, kind: DataKind) -> None:
    machine = conversation()
    assert callable(ask)
    assert tell(machine, ask("k")) == [DataRequested(kind, "d", "k")]
    assert machine.waits_for_data("d")
    machine.data_answered("d")
    assert not machine.waits_for_data("d")
    assert tell(machine, ask("k")) == [DataRequested(kind, "d", "k")]


def test_a_key_that_cannot_be_a_key_is_answered_at_once() -> None:
    machine = conversation()
    (answer,) = tell(machine, said.common(" "))
    assert isinstance(answer, Answer)
    assert answer.request.common_data.reply_id == "d"
    assert "blank" in answer.request.common_data.init.error


def test_requests_under_way_are_bounded_and_not_those_that_were_answered() -> None:
    machine = conversation()
    for number in range(MOST_REQUESTS):
        tell(machine, said.resource(f"k{number}", request_id=str(number)))
    machine.data_answered("0")
    machine.data_delivered()
    tell(machine, said.large_begin(request_id="0"))
    detail = violation(machine, said.resource("one more", request_id="one more"))
    assert "more than 20,000 data requests and large submissions under way at once" in detail


@pytest.mark.parametrize("way", ["result", "resource", "large"])
def test_request_ids_in_use_are_bounded(way: str) -> None:
    machine = conversation()
    long = "x" * (MOST_ID_CHARACTERS - 1)
    tell(machine, *said.result("a", b"1", request_id=long))
    tell(machine, said.resource("k", request_id=long))
    machine.data_answered(long)
    machine.data_delivered()
    for request_id in ("1", "2"):
        tell(machine, said.resource("k", request_id=request_id))
    begun = {
        "result": said.result("b", b"1", request_id=long)[0],
        "resource": said.resource("k", request_id=long),
        "large": said.large_begin(request_id=long),
    }
    assert "request ids in use have more than 16,777,216 characters together" in violation(machine, begun[way])


def test_output_drops_answers_under_way() -> None:
    machine = conversation()
    tell(machine, said.resource("k"))
    end(machine)
    assert not machine.waits_for_data("d")


# ------------------------------------------------------------------ generated stories

_REQUEST_IDS = ["1", "2", ""]
_KEYS = ["a", "b", "foreign"]
_ANY_REPLY = st.sampled_from(_REQUEST_IDS).flatmap(
    lambda request_id: st.one_of(
        st.sampled_from(_KEYS).map(lambda key: said.begin(key, request_id)),
        st.sampled_from([0, 1, 40, 60, 101]).map(lambda size: said.data(bytes(size), request_id)),
        st.just(said.complete(request_id)),
        st.just(said.last_result(request_id)),
        st.sampled_from(_KEYS).map(lambda key: said.resource(key, request_id)),
        st.tuples(st.sampled_from(["t", "u", " "]), st.sampled_from(["a", "o"])).map(
            lambda names: said.small(said.task(*names), request_id=request_id)
        ),
        st.just(said.large_begin(request_id)),
        st.sampled_from(["t", "v"]).map(lambda name: said.large_header(name, "o", request_id=request_id)),
        st.just(said.large_data(bytes(60), request_id)),
        st.just(said.large_complete(request_id)),
        st.just(said.large_end(request_id)),
        st.just(said.ok()),
        st.just(said.error("e")),
        st.just(Reply()),
        st.just(Reply(request_id=request_id)),
    )
)


@given(st.lists(_ANY_REPLY, max_size=12))
def test_any_story_ends_at_most_once_and_uploads_are_in_order(replies: list[Reply]) -> None:
    machine = conversation()
    open_uploads: set[int] = set()
    finished: set[int] = set()
    for reply in replies:
        was_over = machine.said_output
        effects = list(machine.receive(reply))
        for index, effect in enumerate(effects):
            if isinstance(effect, Completed | Failed):
                assert index == len(effects) - 1
                assert machine.said_output
            if isinstance(effect, UploadStarted):
                assert effect.upload not in open_uploads | finished
                open_uploads.add(effect.upload)
            if isinstance(effect, UploadContinued):
                assert effect.upload in open_uploads
            if isinstance(effect, UploadFinished):
                open_uploads.remove(effect.upload)
                finished.add(effect.upload)
            if isinstance(effect, Completed):
                assert not open_uploads
                assert not finished
        if was_over:
            (failed,) = effects
            assert isinstance(failed, Failed)
            assert failed.failure is Failure.ATTEMPT


@given(st.lists(_ANY_REPLY, max_size=6), st.sampled_from(_KEYS), st.binary(max_size=60))
def test_the_shortcut_tells_the_same_story(before: list[Reply], key: str, value: bytes) -> None:
    for story in (before, [*said.result(key, value), said.ok()], [*before, *said.result(key, value), said.ok()]):
        short, long = conversation(), conversation()
        done = short.receive_short(story)
        effects = tell(long, *story)
        if done is not None:
            assert effects == [done]
            assert short.said_output
        else:
            assert tell(short, *story) == effects


def test_the_shortcut_is_taken() -> None:
    assert conversation().receive_short([*said.result("a", b"x"), said.ok()]) == Completed([("a", b"x")], [])


def test_the_shortcut_remembers_no_long_request_id() -> None:
    for request_id, short in (("x" * 256, True), ("x" * 257, False)):
        replies = [*said.result("a", b"1", request_id), said.ok()]
        assert (conversation("a").receive_short(replies) is not None) == short
        assert end(conversation("a"), *replies[:-1]).results == [("a", b"1")]


# ------------------------------------------------------------------ results that the worker stored itself


def stored_violation(effects: Sequence[Effect]) -> str:
    (last,) = effects
    assert isinstance(last, Failed)
    assert last.failure is Failure.ATTEMPT
    return last.detail.removeprefix("the worker broke the protocol: ")


LARGE = StoredObject("object", 100, b"digest")


def test_a_stored_result_stands_among_the_others() -> None:
    machine = conversation("a", "b", "c")
    assert not tell(machine, *said.result("a", b"1"))
    assert not machine.receive_stored("b", LARGE)
    assert end(machine, *said.result("c", b"3")).results == [("a", b"1"), ("b", LARGE), ("c", b"3")]


def test_a_stored_result_while_another_is_uploaded() -> None:
    machine = conversation("a", "b")
    uploading = tell(machine, said.begin("a"), said.data(b"x" * 60))
    assert isinstance(uploading[0], UploadStarted)
    assert not machine.receive_stored("b", LARGE)
    *_, waiting = tell(machine, said.complete(), said.last_result(), said.ok())
    assert isinstance(waiting, OutputReceived)
    other = StoredObject("other", 60, b"")
    (completed,) = machine.stored(uploading[0].upload, other)
    assert isinstance(completed, Completed)
    assert dict(completed.results) == {"a": other, "b": LARGE}


def test_the_short_story_after_a_stored_result() -> None:
    machine = conversation("a", "b")
    assert not machine.receive_stored("a", LARGE)
    replies = [*said.result("b", b"1"), said.ok()]
    assert machine.receive_short(replies) is None
    assert end(machine, *replies[:-1]).results == [("a", LARGE), ("b", b"1")]


def test_a_stored_result_that_is_foreign_or_comes_again() -> None:
    assert "'x' is foreign" in stored_violation(conversation().receive_stored("x", LARGE))
    machine = conversation()
    assert not machine.receive_stored("a", LARGE)
    assert "'a' again: it was sent already" in stored_violation(machine.receive_stored("a", LARGE))
    machine = conversation()
    tell(machine, said.begin("a"))
    assert "'a' again: it was sent already" in stored_violation(machine.receive_stored("a", LARGE))
    machine = conversation()
    assert not machine.receive_stored("a", LARGE)
    assert "'a' again: it was sent already" in violation(machine, said.begin("a"))


@pytest.mark.parametrize("last", [said.ok(), said.error("boom")], ids=["ok", "error"])
def test_a_stored_result_after_output(last: Reply) -> None:
    machine = conversation()
    tell(machine, last)
    assert "a result after Output" in stored_violation(machine.receive_stored("a", LARGE))
