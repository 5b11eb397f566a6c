"""The handlers of the workers: they run the script of their task, step by step.

One body for both kinds of handlers: the plain one runs the coroutine of a task whose every
await is over at once.
"""

import asyncio
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ripieno.worker import AsyncTask, ResultUnavailable, SubTask, SubTasksRefused, Task, TaskError, TaskOptions, startup

#: How long a handler that is held may be held.
_HELD_S = 60.0
_LOOK_S = 0.005
_NEVER = threading.Event()
_PIECE_BYTES = 100_000


#: Processes that have prepared themselves here.
_prepared: list[int] = []


@startup
def prepare() -> None:
    _prepared.append(os.getpid())


class Running(Protocol):
    """A task of either kind, as the steps see it."""

    @property
    def given(self) -> Task | AsyncTask: ...

    async def send_result(self, key: str, data: bytes | Iterator[bytes]) -> None: ...

    async def submit(self, sub_tasks: Sequence[SubTask], options: TaskOptions | None) -> None: ...

    async def fetch(self, kind: str, key: str) -> bytes: ...

    async def pause(self) -> None: ...


class _Plain:
    """A plain task: each method is done before it returns its coroutine's value."""

    def __init__(self, task: Task) -> None:
        self.given = task

    async def send_result(self, key: str, data: bytes | Iterator[bytes]) -> None:
        self.given.send_result(key, data)

    async def submit(self, sub_tasks: Sequence[SubTask], options: TaskOptions | None) -> None:
        self.given.submit(sub_tasks, options)

    async def fetch(self, kind: str, key: str) -> bytes:
        data: bytes = getattr(self.given, kind)(key)
        return data

    async def pause(self) -> None:
        self.given.raise_if_cancelled()
        _NEVER.wait(_LOOK_S)


class _Awaiting:
    """A task of a coroutine handler."""

    def __init__(self, task: AsyncTask) -> None:
        self.given = task

    async def send_result(self, key: str, data: bytes | Iterator[bytes]) -> None:
        await self.given.send_result(key, data)

    async def submit(self, sub_tasks: Sequence[SubTask], options: TaskOptions | None) -> None:
        await self.given.submit(sub_tasks, options)

    async def fetch(self, kind: str, key: str) -> bytes:
        data: bytes = await getattr(self.given, kind)(key)
        return data

    async def pause(self) -> None:
        await asyncio.sleep(_LOOK_S)


def handle(task: Task) -> bytes | None:
    """The plain handler."""
    try:
        _play(_Plain(task)).send(None)
    except StopIteration as end:
        data: bytes | None = end.value
        return data
    raise AssertionError("a plain task waits for nothing")


async def handle_async(task: AsyncTask) -> bytes | None:
    """The coroutine handler."""
    return await _play(_Awaiting(task))


async def _play(task: Running) -> bytes | None:
    """Run the script in the option ``do``, or else in the payload; the value of its last step is the result."""
    script = json.loads(task.given.options.get("do") or task.given.payload)
    value = None
    for step, *arguments in script:
        value = await getattr(Steps, step)(task, *arguments)
    return value


class Steps:
    """What a script can do. A step that gives bytes ends its script with a result."""

    @staticmethod
    async def give(task: Running, text: str) -> bytes:
        return text.encode()

    @staticmethod
    async def tell(task: Running) -> bytes:
        """All that the task was given but its payload."""
        given = task.given
        options = {key: value for key, value in given.options.items() if key != "partition"}
        return _json(
            {
                "session": given.session_id,
                "id": given.task_id,
                "options": options,
                "keys": given.expected_output_keys,
                "data": {key: data.decode() for key, data in given.data.items()},
            }
        )

    @staticmethod
    async def echo(task: Running) -> bytes:
        return task.given.payload

    @staticmethod
    async def digest(task: Running) -> bytes:
        """Size and SHA-256 of the payload and of each dependency, read piece by piece."""
        files = {"": task.given.open_payload(), **{key: task.given.open_data(key) for key in task.given.data}}
        return _json({key: _digest_of(_pieces(file)) for key, file in files.items()})

    @staticmethod
    async def total(task: Running, number: int) -> bytes:
        """The number and those in the dependencies, added up."""
        return str(number + sum(map(int, task.given.data.values()))).encode()

    @staticmethod
    async def send(task: Running, key: str, text: str) -> None:
        await task.send_result(key, text.encode())

    @staticmethod
    async def send_pattern(task: Running, key: str, size: int) -> None:
        await task.send_result(key, pattern(size))

    @staticmethod
    async def submit(
        task: Running, sub_tasks: list[dict[str, Any]], options: dict[str, Any] | None = None
    ) -> bytes | None:
        """Create sub-tasks; where they are refused, give their ids."""
        batch = [
            SubTask(each["payload"].encode(), each["keys"], each["needs"], id=each["id"])
            if "payload" in each
            else SubTask(_json(each["script"]), each["keys"], each["needs"], id=each["id"])
            for each in sub_tasks
        ]
        try:
            await task.submit(batch, None if options is None else TaskOptions(**options))
        except SubTasksRefused as refusal:
            return f"refused {' '.join(refusal.ids)}".encode()
        return None

    @staticmethod
    async def fetch(task: Running, wanted: list[tuple[str, str]]) -> bytes:
        """Ask for data, each of a kind; give the size and SHA-256 of each, or the reason why there is none."""
        answers = []
        for kind, key in wanted:
            try:
                answers.append(_digest_of(iter([await task.fetch(kind, key)])))
            except ResultUnavailable as unavailable:
                answers.append(unavailable.reason)
        return _json(answers)

    @staticmethod
    async def hold(task: Running, gate: str) -> None:
        """Make the file ``<gate>.begun``, then wait until there is a file ``<gate>``."""
        Path(f"{gate}.begun").touch()
        deadline = time.monotonic() + _HELD_S
        while not Path(gate).exists():
            assert time.monotonic() < deadline, f"nobody opens {gate}"
            await task.pause()

    @staticmethod
    async def hold_on(task: Running, gate: str) -> None:
        """The same, whatever the agent says: it does not even look up."""
        Path(f"{gate}.begun").touch()
        deadline = time.monotonic() + _HELD_S
        while not Path(gate).exists() and time.monotonic() < deadline:
            _NEVER.wait(_LOOK_S)

    @staticmethod
    async def note(task: Running, book: str) -> None:
        """Write a line with the attempt's id into a file that all may write to."""
        _write_line(Path(book), task.given.task_id)

    @staticmethod
    async def run(task: Running, code: str) -> bytes:
        """Run a piece of Python."""
        exec(code, {"task": task.given})
        return b"ran"

    @staticmethod
    async def error(task: Running, text: str) -> None:
        raise TaskError(text)

    @staticmethod
    async def progress(task: Running, fraction: float, text: str) -> None:
        task.given.progress(fraction, text)

    @staticmethod
    async def prepared(task: Running) -> bytes:
        """How often this worker's process has prepared itself."""
        return f"{os.getpid()}: {_prepared.count(os.getpid())} of {len(_prepared)}".encode()

    @staticmethod
    async def raise_with(task: Running, text: str, value: str, final: bool) -> None:
        """Fail, for good or not, with a value for programs."""
        if final:
            raise TaskError(text, value=value.encode())
        error = RuntimeError(text)
        error.__ripieno_failure_value__ = value.encode()  # type: ignore[attr-defined]
        raise error

    @staticmethod
    async def require(task: Running, path: str) -> None:
        """Print the attempt's id, and fail unless there is a file."""
        print(task.given.task_id, flush=True)
        if not Path(path).exists():
            raise RuntimeError(f"attempt {task.given.task_id!r} misses its file")

    @staticmethod
    async def fail(task: Running, text: str, attempts: int) -> None:
        """Fail the first attempts."""
        _, _, retry = task.given.task_id.partition("###")
        if int(retry or 0) < attempts:
            raise RuntimeError(f"{text} {retry or 0}")


def pattern(size: int) -> Iterator[bytes]:
    """Bytes that do not repeat within a chunk, in pieces of no particular length."""
    step = _PIECE_BYTES - 1
    for start in range(0, size, step):
        piece = b"".join(number.to_bytes(4, "big") for number in range(start, start + step, 4))
        yield piece[: min(step, size - start)]


def _write_line(book: Path, text: str) -> None:
    with book.open("a") as lines:
        lines.write(f"{text}\n")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _digest_of(pieces: Iterator[bytes]) -> str:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return f"{size} {digest.hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
