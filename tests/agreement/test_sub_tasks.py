"""Golden scenarios G7, G8 and G29: tasks that create tasks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agreement.scripts import Step, script, sub_task, task
from agreement.stage import Seen, Stage, unique
from ripieno.client import AlreadyExistsError, ResultStatus, TaskStatus

COMPLETED, ERROR = TaskStatus.COMPLETED, TaskStatus.ERROR


async def test_g7_a_child_takes_over_the_result(stage: Stage) -> None:
    session, gate, name, child = await stage.session(), stage.gate(), unique("g7"), unique("g7-child")
    steps = [["hold", str(gate.path)], ["give", "of the child"]]
    handle = await session.submit(task(name, ["submit", [sub_task(child, *steps, keys=["key"])]], keys=["key"]))

    await gate.begun()
    statuses = await session.status()
    assert statuses.keys() == {name, child}
    assert statuses[name] is COMPLETED and not statuses[child].final
    assert await session.result_status("key") == {"key": ResultStatus.CREATED}
    gate.open()

    assert await stage.seen(handle) == Seen(COMPLETED, b"of the child")
    assert await session.task_ids() == [name, child]
    assert await session.wait() == {COMPLETED: 2}


async def test_a_result_that_is_passed_on_and_on(stage: Stage) -> None:
    session, names = await stage.session(), [unique(f"generation {number}") for number in range(6)]
    steps: list[Step] = [["tell"]]
    for name in reversed(names[1:]):
        steps = [["submit", [sub_task(name, *steps, keys=["heirloom"])]]]
    handle = await session.submit(task(names[0], *steps, keys=["heirloom"]))

    seen = await stage.seen(handle)

    assert seen.status is COMPLETED and seen.data is not None
    assert json.loads(seen.data)["id"] == names[-1]
    assert await session.wait() == {COMPLETED: 6}
    assert await session.task_ids() == names


async def test_g8_no_child_of_a_task_that_fails(stage: Stage) -> None:
    session, name, child = await stage.session(), unique("g8"), unique("g8-child")
    created = ["submit", [sub_task(child, ["give", "x"], keys=["key", "of the child"])]]
    handle = await session.submit(task(name, created, ["error", "changed my mind"], keys=["key"]))

    assert await stage.seen(handle) == Seen(ERROR, None, name, ((ERROR, "changed my mind"),))
    assert await session.task_ids() == [name]
    assert await session.result_status(["key", "of the child"]) == {"key": ResultStatus.ABORTED}


async def test_children_of_the_attempt_that_succeeds_alone(stage: Stage) -> None:
    session, name, child = await stage.session(max_retries=1), unique("twice"), unique("twice-child")
    created = ["submit", [sub_task(child, ["tell"], keys=["key"])]]
    handle = await session.submit(task(name, created, ["fail", "after all its work", 1], keys=["key"]))

    seen = await stage.seen(handle)

    assert seen.data is not None and json.loads(seen.data)["id"] == child
    assert await session.wait() == {COMPLETED: 2}


async def test_children_that_are_refused(stage: Stage) -> None:
    session, name, child = await stage.session(), unique("refused"), unique("refused-child")
    own_id = ["submit", [sub_task(name, ["give", "x"], keys=["new"]), sub_task(child, ["give", "x"])]]
    handle = await session.submit(task(name, own_id))

    assert await stage.seen(handle) == Seen(COMPLETED, f"refused {name}".encode())
    assert await session.task_ids() == [name]
    assert await session.result_status([child, "new"]) == {}


async def test_a_refused_batch_does_not_spoil_the_next(stage: Stage) -> None:
    session, name, child = await stage.session(), unique("spoilt"), unique("spoilt-child")
    refused = ["submit", [sub_task(name, ["give", "x"], keys=["key"])]]
    accepted = ["submit", [sub_task(child, ["give", "second try"], keys=["key"])]]
    handle = await session.submit(task(name, refused, accepted, keys=["key"]))

    assert await stage.seen(handle) == Seen(COMPLETED, b"second try")
    assert await session.task_ids() == [name, child]


async def test_children_that_clash_with_what_exists(stage: Stage) -> None:
    session, taken, name = await stage.session(max_retries=3), unique("taken"), unique("clash")
    await session.submit(task(taken, ["give", "original"]))
    new = unique("new")
    batch = [sub_task(new, ["give", "x"]), sub_task(taken, ["give", "x"], keys=["other"])]
    handle = await session.submit(task(name, ["submit", batch], ["send", name, "x"]))

    seen = await stage.seen(handle)

    clash = AlreadyExistsError("task ids", [taken]).detail
    assert seen == Seen(ERROR, None, name, ((ERROR, f"its sub-tasks were refused: {clash}"),))
    assert await session.task_ids() == [taken, name]
    assert await session.result(taken, timeout=30) == b"original"


async def test_children_have_the_options_they_are_given(stage: Stage) -> None:
    session, name = await stage.session(options={"of": "session"}), unique("options")
    plain, special = unique("options-plain"), unique("options-special")
    options: dict[str, Any] = {
        "max_duration_us": 5_000_000,
        "max_retries": 1,
        "priority": 9,
        "options": {"of": "batch"},
    }
    if stage.lane.partition is not None:
        options["options"]["partition"] = stage.lane.partition
    steps: list[Step] = [
        ["submit", [sub_task(plain, ["tell"])]],
        ["submit", [sub_task(special, ["fail", "once", 1], ["tell"])], options],
    ]
    await session.submit(task(name, *steps, keys=[name]))
    await session.wait(name, timeout=30)

    told = {key: json.loads(await session.result(key, timeout=30)) for key in (plain, special)}

    assert [told[plain]["options"], told[special]["options"]] == [{"of": "session"}, {"of": "batch"}]
    assert told[special]["id"] == f"{special}###1"


async def test_children_with_large_payloads(stage: Stage) -> None:
    session, name = await stage.session(), unique("large")
    payloads = {unique(f"large-{size}"): "p" * size for size in (0, 1, 84_000, 84_001, 300_000)}
    options: dict[str, Any] = {"max_duration_us": 30_000_000, "max_retries": 0, "priority": 1}
    options["options"] = {"do": json.dumps([["echo"]])}
    if stage.lane.partition is not None:
        options["options"]["partition"] = stage.lane.partition
    # Script and all is larger than a chunk, so the task itself is streamed, too.
    batch = [sub_task(key, payload=payload) for key, payload in payloads.items()]
    await session.submit(task(name, ["submit", batch, options]))
    await session.wait(name, timeout=30)

    found = {result.key: result.data async for result in session.results(list(payloads), timeout=30)}

    assert found == {key: payload.encode() for key, payload in payloads.items()}


@dataclass
class Node:
    """A node of a tree; its value is its number and those of all nodes below it."""

    name: str
    number: int
    children: list["Node"] = field(default_factory=list)

    @property
    def value(self) -> int:
        return self.number + sum(child.value for child in self.children)

    @property
    def tasks(self) -> int:
        """One a node, and an aggregator for each inner one."""
        return sum(child.tasks for child in self.children) + (2 if self.children else 1)

    @property
    def steps(self) -> list[Step]:
        """Make the children and an aggregator that takes over the node's result, in two batches."""
        if not self.children:
            return [["total", self.number]]
        keys = [child.name for child in self.children]
        total = sub_task(f"{self.name} sum", ["total", self.number], keys=[self.name], needs=keys)
        return [["submit", [total]], ["submit", [sub_task(child.name, *child.steps) for child in self.children]]]


def tree(name: str, branches: Sequence[int]) -> Node:
    """A tree with ``branches[n]`` children under each node of level n."""
    children = [tree(f"{name}.{index}%", branches[1:]) for index in range(branches[0])] if branches else []
    return Node(name, len(name), children)


async def test_g29_a_tree_adds_up(stage: Stage) -> None:
    session, root = await stage.session(max_duration=60), tree(unique("g29"), (4, 4, 5))
    assert root.tasks == 122

    handle = await session.submit(task(root.name, *root.steps))

    assert await stage.seen(handle) == Seen(COMPLETED, str(root.value).encode())
    assert await session.wait(timeout=60) == {COMPLETED: root.tasks}
    assert script(["total", 1]) == b'[["total", 1]]', "scripts inside scripts are not escaped again and again"
