"""Functions that the tests submit."""

import os
import time
from pathlib import Path
from typing import Any

import ripieno


def square(number: int) -> int:
    return number * number


def fail(text: str) -> None:
    raise LookupError(text)


def fail_until(attempts: int, counter: str) -> int:
    """Fail so often; the file counts the calls."""
    with Path(counter).open("ab") as file:
        file.write(b".")
    if Path(counter).stat().st_size < attempts:
        raise ConnectionError("not yet")
    return Path(counter).stat().st_size


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return path


def process_id(_: object = None) -> int:
    return os.getpid()


def identity(value: Any) -> Any:
    return value


def fibonacci(number: int) -> Any:
    if number < 2:
        return number
    task = ripieno.current()
    return task.submit(sum, [task.submit(fibonacci, number - 1), task.submit(fibonacci, number - 2)])


def several(number: int) -> Any:
    task = ripieno.current()
    made = task.submit(square, number)
    return {"alone": made, "nested": [task.submit(square, made)], "plain": task.task_id}


def aside(path: str) -> str:
    ripieno.current().submit(Path(path).write_text, "written")
    return "ended"


_left: list[Any] = []


def returns_what_a_failed_attempt_submitted() -> Any:
    task = ripieno.current()
    if not _left:
        _left.append(task.submit(square, 2))
        raise ValueError("again")
    return _left.pop()


def waits_inside() -> Any:
    return ripieno.current().submit(square, 2).result()


async def doubled(number: int) -> int:
    return 2 * number


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def wait_for_if(path: str | None) -> str | None:
    return path and wait_for(path)


def sleep(length_s: float) -> None:
    time.sleep(length_s)


class _Unreadable:
    def __reduce__(self) -> Any:
        return refuse_outside_a_task, ()


def refuse_outside_a_task() -> None:
    ripieno.current()


def unreadable() -> Any:
    return _Unreadable()


noted_text = ""


def note(path: str, text: str) -> None:
    global noted_text
    noted_text += text
    with Path(path).open("a") as file:
        file.write(text)


def noted(_: object) -> str:
    return noted_text


def kill_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return "alive"


def append_after(path: str, mark: str, text: str) -> None:
    wait_for(mark)
    with Path(path).open("a") as file:
        file.write(text)


def meet(own: str, other: str) -> str:
    Path(own).touch()
    return wait_for(other)
