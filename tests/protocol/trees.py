"""Trees of sub-tasks: each inner node creates its children and an aggregator that takes over its key."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from protocol.conversation import Behaviour, Conversation
from protocol.messages import task
from protocol.stubs.objects_pb2 import TaskRequest


@dataclass
class Node:
    """One node; its value is its own number and those of all nodes below it.

    Attributes:
        name: Id and result key of its task.
    """

    name: str
    number: int
    children: list["Node"] = field(default_factory=list)

    @property
    def value(self) -> int:
        return self.number + sum(child.value for child in self.children)

    def all(self) -> Iterator["Node"]:
        """This node and those below it."""
        yield self
        for child in self.children:
            yield from child.all()

    @property
    def tasks(self) -> int:
        """How many tasks it takes: one a node and an aggregator for each inner node."""
        return sum(2 if node.children else 1 for node in self.all())


def regular(name: str, branches: Sequence[int]) -> Node:
    """A tree with ``branches[n]`` children under each node of level n."""
    children = [regular(f"{name}.{index}", branches[1:]) for index in range(branches[0])] if branches else []
    return Node(name, len(name), children)


def random_shape(name: str, generator: random.Random, size: int, levels: int) -> Node:
    """A tree of ``size`` nodes on at most ``levels`` levels; its names contain ``%`` and ``.``."""
    root = Node(f"{name}%2E.", generator.randrange(1_000))
    open_nodes = [(root, 1)]
    for count in range(1, size):
        parent, level = open_nodes[generator.randrange(len(open_nodes))]
        child = Node(f"{name}%{count}.{level}", generator.randrange(1_000))
        parent.children.append(child)
        if level + 1 < levels:
            open_nodes.append((child, level + 1))
    return root


def first_task(root: Node) -> TaskRequest:
    """The task that grows the tree."""
    return task(root.name, [root.name], payload=f"node {root.name}".encode())


def growing(root: Node, *, fail_first: float = 0.0, seed: int = 0) -> Behaviour:
    """The behaviour of every task of the tree.

    Args:
        root: The tree.
        fail_first: The share of tasks whose first attempt fails after all its work, before its Output.
        seed: Of the choice which tasks these are.
    """
    nodes = {node.name: node for node in root.all()}

    def fails(attempt: str) -> bool:
        # An attempt id with a retry in it is never a first attempt.
        return "###" not in attempt and random.Random(f"{seed} {attempt}").random() < fail_first

    async def behaviour(call: Conversation) -> None:
        given = await call.task()
        kind, _, name = given.payload.decode().partition(" ")
        node = nodes[name]
        if kind == "node" and node.children:
            await _branch(call, node)
        else:
            below = sum(int(data) for data in given.data.values())
            assert len(given.data) == (len(node.children) if kind == "sum" else 0)
            await call.send_result(name, str(node.number + below).encode())
        if fails(given.task_id):
            await call.fail("the first attempt fails")
        await call.ok()

    return behaviour


async def _branch(call: Conversation, node: Node) -> None:
    children = [task(child.name, [child.name], payload=f"node {child.name}".encode()) for child in node.children]
    keys = [child.name for child in node.children]
    total = task(f"{node.name} sum", [node.name], needs=keys, payload=f"sum {node.name}".encode())
    # Two batches in one task: the aggregator waits for keys that the other batch announces.
    large_first = len(node.children) % 2 == 0
    for batch, large in (([total], large_first), (children, not large_first)):
        reply = await call.sub_tasks(batch, large=large)
        assert reply.WhichOneof("Data") == "successfull", reply
