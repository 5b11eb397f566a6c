"""Handlers that the tests' workers serve: the task's option ``do`` names what to do."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread

from ripieno.worker import (
    AsyncTask,
    ResultUnavailable,
    SubTask,
    SubTasksRefused,
    Task,
    TaskCancelled,
    TaskError,
    TaskOptions,
)

OPTIONS = TaskOptions(max_duration_us=2_000_000, max_retries=1, priority=3)


def handle(task: Task) -> object:
    return globals()[f"_{task.options['do']}"](task)


def _echo(task: Task) -> bytes:
    return task.payload


def _tell(task: Task) -> bytes:
    data = {key: task.data[key] for key in task.data}
    return repr((task.session_id, task.task_id, task.payload, data, task.expected_output_keys, task.cancelled)).encode()


def _nothing(task: Task) -> None:
    return None


def _two_results(task: Task) -> bytes:
    first, second = task.expected_output_keys
    task.send_result(first, (piece for piece in (b"12", b"", b"3456", b"78901")))
    return b"the one that is left: " + second.encode()


def _number(task: Task) -> int:
    return 3


def _bytes(task: Task) -> bytes:
    return b"x"


def _fail_for_good(task: Task) -> bytes:
    task.send_result("r", b"does not count")
    raise TaskError("boom")


def _raise(task: Task) -> bytes:
    raise ValueError("the strike is négative")


def _raise_much(task: Task) -> bytes:
    raise ValueError("first " + "é\n" * 9_000 + " last")


def _raise_with_value(task: Task) -> bytes:
    error = TaskError("it carries") if task.payload == b"final" else ValueError("it carries")
    error.__ripieno_failure_value__ = b"\0the exception"  # type: ignore[union-attr]
    raise error


def _exit(task: Task) -> bytes:
    raise SystemExit(3)


def _half_result(task: Task) -> bytes:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise {"final": TaskError, "not": ValueError}[task.payload.decode()]("in the middle")

    task.send_result("r", pieces())
    return b""


def _half_result_hidden(task: Task) -> None:
    try:
        task.send_result("r", [b"half", "text"])  # type: ignore[list-item]
    except TypeError:
        return


def _foreign_key(task: Task) -> None:
    task.send_result("foreign", b"")


def _same_key_twice(task: Task) -> None:
    task.send_result("r", b"1")
    task.send_result("r", b"2")


def _submit(task: Task) -> None:
    """Delegates its result; says what became of it in the sub-tasks' own words."""
    tasks = [SubTask(task.payload, ["r"], ["d"], id="child"), SubTask(b"", ["other"], id="sibling")]
    try:
        task.submit(tasks, OPTIONS)
    except SubTasksRefused as refused:
        task.send_result("r", str(refused.ids).encode())


def _submit_and_return(task: Task) -> bytes:
    task.submit([SubTask(b"", ["r"])])
    return b"mine as well"


def _fetch(task: Task) -> bytes:
    found = [task.resource("a"), task.common_data("b")]
    try:
        task.direct_data("c")
    except ResultUnavailable as missing:
        found.append(f"{missing.key}: {missing.reason}".encode())
    return b"|".join(found)


def _hold(task: Task) -> bytes:
    """Runs until the question is answered: whoever reads it knows that the handler runs."""
    return task.resource("go")


def _note_cancel(task: Task) -> bytes:
    """Writes down how its wait ended."""
    try:
        task.resource("go")
    except TaskCancelled:
        Path(task.payload.decode()).write_text(f"cancelled: {task.cancelled}")
        raise
    return b""


def _progress(task: Task) -> bytes:
    task.progress(0.5, task.payload.decode())
    for percent in range(50, 101):
        task.progress(percent / 100, "more")
    return b"said"


def _wait_cancelled(task: Task) -> bytes:
    """Tells how its wait ended: in time, or cancelled, of which it writes down what the worker said."""
    if not task.wait_cancelled(0.01):
        task.send_result("begun", b"")
        Path(task.payload.decode()).write_text(f"{task.wait_cancelled()} {task.cancelled}")
    return b""


def _leave_waiting(task: Task) -> bytes:
    """A thread that it leaves behind waits for a cancellation that does not come."""
    kept = Path(task.payload.decode())
    Thread(target=lambda: kept.write_text(f"{task.wait_cancelled()}")).start()
    return b""


def _spin(task: Task) -> bytes:
    """Computes, deaf to everything, until a file appears."""
    task.send_result("begun", b"")
    while not Path(task.payload.decode()).exists():
        pass
    return b"spun"


def _spin_until_cancelled(task: Task) -> bytes:
    task.send_result("begun", b"")
    while True:
        task.raise_if_cancelled()


def _digest(task: Task) -> bytes:
    digest = hashlib.sha256()
    with task.open_payload() as payload, task.open_data("d") as data:
        for source in (payload, data):
            while chunk := source.read(1 << 18):
                digest.update(chunk)
    return digest.digest()


def _copy(task: Task) -> None:
    with task.open_payload() as payload:
        task.send_result("r", iter(lambda: payload.read(1 << 18), b""))


def _count_up(task: Task) -> None:
    """Streams 84 MB, writing down how much it has produced."""
    with Path(task.payload.decode()).open("r+b", buffering=0) as counter:

        def pieces() -> Iterator[bytes]:
            for number in range(1, 1_001):
                counter.seek(0)
                counter.write((number * 84_000).to_bytes(8, "little"))
                yield bytes(84_000)

        task.send_result("r", pieces())


def some_bytes(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def pieces_of(order: str) -> Iterator[bytes]:
    """``size`` bytes in one piece, or ``size/length`` in pieces of that length."""
    size, _, length = order.partition("/")
    data = some_bytes(int(size))
    step = int(length or size) or 1
    return (data[start : start + step] for start in range(0, len(data), step))


def _make(task: Task) -> None:
    """Each result as the option of its name orders it."""
    for key in task.expected_output_keys:
        task.send_result(key, pieces_of(task.options[key]))


def _give(task: Task) -> bytes:
    return some_bytes(int(task.payload))


def _make_from_nothing(task: Task) -> None:
    """So many MiB, each made when it is asked for."""
    task.send_result("r", (bytes(500_000) + b"%24d" % n + bytes(548_552) for n in range(int(task.options["r"]))))


def _make_of_one_buffer(task: Task) -> None:
    """Writes over each piece as soon as it has given it away."""
    buffer = bytearray()

    def pieces() -> Iterator[bytearray]:
        for piece in pieces_of(task.options["r"]):
            buffer[:] = piece
            yield buffer
            buffer[:] = bytes(len(buffer))

    task.send_result("r", pieces())


def _make_at_once(task: Task) -> None:
    """Each result in a thread of its own."""
    with ThreadPoolExecutor(len(task.expected_output_keys)) as threads:
        for made in [
            threads.submit(task.send_result, key, pieces_of(task.options[key])) for key in task.expected_output_keys
        ]:
            made.result()


def _spoil(task: Task) -> bytes | None:
    """Breaks off in the middle of its first result: lets the error through, or hides it and goes on."""

    def pieces() -> Iterator[bytes]:
        yield from pieces_of(task.options["r"])
        raise {"final": TaskError}.get(task.options["error"], ValueError)("in the middle")

    try:
        task.send_result("r", pieces())
    except ValueError:
        if task.options["error"] != "hidden":
            raise
    return b"the other one" if len(task.expected_output_keys) > 1 else None


def _pause(task: Task) -> None:
    """Asks a question in the middle of its result."""

    def pieces() -> Iterator[bytes]:
        yield from pieces_of(task.options["r"])
        yield task.resource("go")

    task.send_result("r", pieces())


async def handle_async(task: AsyncTask) -> object:
    return await globals()[f"_async_{task.options['do']}"](task)


async def _async_echo(task: AsyncTask) -> bytes:
    await asyncio.sleep(0)
    return task.payload


async def _async_deaf(task: AsyncTask) -> bytes:
    """Goes on to its end although it is cancelled on its way."""
    try:
        await task.resource("go")
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return b"deaf"


async def _async_impatient(task: AsyncTask) -> bytes:
    """Gives up one question before its answer is there, and asks another."""
    try:
        async with asyncio.timeout(0):
            await task.resource("slow")
    except TimeoutError:
        return await task.resource("go")
    return b""


async def _async_raise(task: AsyncTask) -> bytes:
    raise ValueError("the strike is négative")


async def _async_fail_for_good(task: AsyncTask) -> bytes:
    raise TaskError("boom")


async def _async_everything(task: AsyncTask) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"12", b"345"):
            await asyncio.sleep(0)
            yield piece

    a, b = await asyncio.gather(task.resource("a"), task.common_data("b"))
    await task.send_result("streamed", pieces())
    await task.send_result("pieces", [a, b])
    await task.submit([SubTask(b"", ["other"], id="child")])
    return b"left"


async def _async_note_cancel(task: AsyncTask) -> bytes:
    try:
        await task.resource("go")
    except asyncio.CancelledError:
        Path(task.payload.decode()).write_text(f"cancelled: {task.cancelled}")
        raise
    return b""


async def _async_pause_async(task: AsyncTask) -> bytes:
    return await task.resource("go")


async def _async_wait_cancelled(task: AsyncTask) -> bytes:
    """A task beside the handler's writes down how its wait ended."""

    async def watch() -> None:
        Path(task.payload.decode()).write_text(f"{await task.wait_cancelled()} {task.cancelled}")

    if await task.wait_cancelled(0.01):
        return b""
    watching = asyncio.create_task(watch())
    await task.send_result("begun", b"")
    try:
        await asyncio.sleep(60)
    finally:
        await watching
    return b""


async def _async_make(task: AsyncTask) -> None:
    async def pieces(key: str) -> AsyncIterator[bytes]:
        for piece in pieces_of(task.options[key]):
            await asyncio.sleep(0)
            yield piece

    await asyncio.gather(*(task.send_result(key, pieces(key)) for key in task.expected_output_keys))


async def _async_make_from_nothing(task: AsyncTask) -> None:
    await task.send_result("r", (bytes(1024 * 1024) for _ in range(int(task.options["r"]))))


async def _async_give(task: AsyncTask) -> bytes:
    return some_bytes(int(task.payload))


async def _async_pause(task: AsyncTask) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in pieces_of(task.options["r"]):
            yield piece
        yield await task.resource("go")

    await task.send_result("r", pieces())


async def _async_give_up(task: AsyncTask) -> None:
    """Gives up a result that has no name yet, and makes another."""
    first, second = task.expected_output_keys
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await task.send_result(first, pieces_of(task.options[first]))
    await task.send_result(second, pieces_of(task.options[second]))
