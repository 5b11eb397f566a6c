"""Graphs of tasks that add numbers: the value of each is its own number and those of what it depends on."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocol.conversation import Conversation
from protocol.messages import out, task
from protocol.stubs.objects_pb2 import TaskRequest


@dataclass
class Vertex:
    """One task; ``needs`` are the tasks whose results it reads."""

    name: str
    number: int
    needs: list["Vertex"] = field(default_factory=list)

    @property
    def request(self) -> TaskRequest:
        return task(self.name, needs=[out(need.name) for need in self.needs], payload=str(self.number).encode())


def values(vertices: Iterable[Vertex]) -> dict[str, int]:
    """The right value by name; a vertex stands after all that it needs."""
    found: dict[str, int] = {}
    for vertex in vertices:
        found[vertex.name] = vertex.number + sum(found[need.name] for need in vertex.needs)
    return found


def descendants(vertices: Iterable[Vertex], of: Vertex) -> set[str]:
    """The names of those that need a vertex, directly or not; itself left out."""
    found = {of.name}
    for vertex in vertices:
        if any(need.name in found for need in vertex.needs):
            found.add(vertex.name)
    return found - {of.name}


def chain(name: str, length: int) -> list[Vertex]:
    """Each needs the one before it."""
    vertices: list[Vertex] = []
    for number in range(length):
        vertices.append(Vertex(f"{name} {number}", number + 1, vertices[-1:]))
    return vertices


def diamonds(name: str, layers: int, width: int) -> list[Vertex]:
    """Layers of ``width`` with a single vertex between each two; numbers are small, so values stay printable."""
    vertices = [Vertex(f"{name} 0", 1)]
    for layer in range(layers):
        middle = [Vertex(f"{name} {layer}.{side}", side, vertices[-1:]) for side in range(width)]
        vertices += [*middle, Vertex(f"{name} {layer + 1}", 1, middle)]
    return vertices


def random_graph(name: str, generator: random.Random, size: int, most_needs: int = 3) -> list[Vertex]:
    """Each needs up to ``most_needs`` earlier ones, mostly recent; values stay below 64 bits."""
    vertices: list[Vertex] = []
    for number in range(size):
        recent = vertices[-60:]
        needs = generator.sample(recent, min(len(recent), generator.randrange(most_needs + 1)))
        vertices.append(Vertex(f"{name}%{number}.", generator.randrange(100), needs))
    return vertices


def in_batches(vertices: Sequence[Vertex], size: int) -> list[list[TaskRequest]]:
    """Their requests, cut into submissions."""
    return [[vertex.request for vertex in vertices[start : start + size]] for start in range(0, len(vertices), size)]


async def add(call: Conversation) -> None:
    """The behaviour of every vertex."""
    given = await call.task()
    total = int(given.payload) + sum(int(data) for data in given.data.values())
    for key in given.expected_output_keys:
        await call.send_result(key, str(total).encode())
    await call.ok()
