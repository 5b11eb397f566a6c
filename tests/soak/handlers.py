"""The handler of the soak's workers: a payload is a word and its argument."""

import time
from pathlib import Path

from ripieno.worker import SubTask, Task, TaskError


def handle(task: Task) -> bytes | None:
    """Do what the first word of the payload says."""
    word, _, argument = task.payload.partition(b" ")
    match word:
        case b"echo":
            return argument[::-1]
        case b"sleep":
            time.sleep(float(argument))
            return argument
        case b"flaky":
            _fail_once(Path(argument.decode()))
            return b"recovered"
        case b"hopeless":
            raise TaskError(argument.decode())
        case b"total":
            return str(int(argument) + sum(int(data) for data in task.data.values())).encode()
        case b"family":
            _delegate(task, int(argument))
            return None
    raise TaskError(f"unknown word {word!r}")


def _fail_once(mark: Path) -> None:
    """Fail where nobody has failed for this mark before."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    raise RuntimeError(f"fails the first time: {mark.name}")


def _delegate(task: Task, members: int) -> None:
    """Have the result made by a sub-task that needs those of the others."""
    [key] = task.expected_output_keys
    parts = [SubTask(f"total {number}".encode(), [f"{key}/{number}"]) for number in range(members)]
    task.submit([*parts, SubTask(b"total 0", [key], [f"{key}/{number}" for number in range(members)])])
