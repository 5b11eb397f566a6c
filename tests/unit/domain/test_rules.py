"""The rules of names, options and statuses, without anything around them."""

import pytest

from ripieno.domain.errors import AlreadyExistsError, InvalidRequestError
from ripieno.domain.identifiers import attempt_id, check_identifier, is_plain_identifier, task_id_of_alias
from ripieno.domain.options import TaskOptions, check_options
from ripieno.domain.submission import NewTask, check_tasks

GOOD = ["a", "%", "a.b#c", " a ", "día", "x" * 1024, "ü" * 512, "###", "a###1"]
BAD = ["", " ", "\t\n", "x" * 1025, "ü" * 513, "a\0b", "caf\udce9", "\ud83d"]


@pytest.mark.parametrize("name", GOOD)
def test_any_visible_string_is_a_name(name: str) -> None:
    check_identifier("id", name)


@pytest.mark.parametrize("name", BAD)
def test_what_no_name_may_be_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^task\.id: "):
        check_identifier("task.id", name)


@pytest.mark.parametrize("name", GOOD + BAD)
def test_the_quick_look_never_lets_a_bad_name_pass(name: str) -> None:
    assert not (is_plain_identifier(name) and name in BAD)


@pytest.mark.parametrize(("shown", "task"), [("t###1", "t"), ("t###1###2", "t###1"), ("###1", None), ("t###0", None)])
def test_an_attempt_id_stands_for_its_task(shown: str, task: str | None) -> None:
    assert task_id_of_alias(shown) == task


def test_the_first_attempt_has_the_id_of_the_task() -> None:
    assert (attempt_id("t", 0), attempt_id("t", 2)) == ("t", "t###2")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (TaskOptions(0, 0, 1), "max_duration"),
        (TaskOptions(-1, 0, 1), "max_duration"),
        (TaskOptions(1, -1, 1), "max_retries"),
        (TaskOptions(1, 0, 0), "priority"),
        (TaskOptions(1, 0, 100), "priority"),
        (TaskOptions(1, 0, 1, {"partition": " "}), "options"),
        (TaskOptions(1, 0, 1, {"a": "\0"}), "options"),
        (TaskOptions(1, 0, 1, {"a": "\udce9"}), "options"),
        (TaskOptions(1, 0, 1, {"\udce9": "a"}), "options"),
    ],
)
def test_options_outside_their_bounds_are_refused_by_name(options: TaskOptions, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^task_options\.{field}"):
        check_options("task_options", options)


@pytest.mark.parametrize("priority", [1, 99])
def test_the_bounds_themselves_are_fine(priority: int) -> None:
    check_options("task_options", TaskOptions(1, 0, priority))


def test_the_first_ten_of_many_clashes_are_named() -> None:
    error = AlreadyExistsError("task ids", [f"t{number}" for number in range(12)])
    assert "'t9' and 2 more" in error.detail
    assert "'t10'" not in error.detail


class Unsearchable(list[str]):
    """Names that are too many to be searched one by one."""

    def __contains__(self, _name: object) -> bool:
        raise AssertionError("searched through")


def test_a_task_of_many_outputs_and_many_dependencies_is_checked_in_one_pass() -> None:
    outputs = Unsearchable(["a", "b"])
    check_tasks("tasks", [NewTask("t", outputs, ["c", "d"], b"")])
    with pytest.raises(InvalidRequestError, match=r"^tasks\[0\]\.data_dependencies: 'b' is an output of the same task"):
        check_tasks("tasks", [NewTask("t", outputs, ["c", "b"], b"")])
