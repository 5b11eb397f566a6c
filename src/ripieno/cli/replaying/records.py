"""``Record``: what a cluster knows of an attempt of the past, fetched into a directory."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.client import Client, RipienoError, Session, TaskInputs
from ripieno.domain.statuses import ResultStatus, TaskStatus

#: How payloads begin that the functions worker runs: envelopes, and pickles of protocol 2 and later.
_FUNCTIONS = (b"RPF1", b"\x80")


@dataclass(frozen=True, slots=True)
class Record:
    """An attempt of the past.

    Attributes:
        inputs: What the task runs on.
        attempt: Number of the attempt, from 0.
        status: How it ended; one that is not final if it has not.
        reason: Why it failed; empty if it did not.
        payload: The file with its payload.
        data: The files with its data dependencies, by key.
        results: The statuses of its expected outputs, by key.
    """

    inputs: TaskInputs
    attempt: int
    status: TaskStatus
    reason: str
    payload: Path
    data: Mapping[str, Path]
    results: Mapping[str, ResultStatus]

    @property
    def attempt_id(self) -> str:
        """The id under which the worker saw the attempt."""
        return f"{self.inputs.task_id}###{self.attempt}" if self.attempt else self.inputs.task_id

    @property
    def is_function(self) -> bool:
        """Whether the payload is one for the functions worker, as far as its first bytes tell."""
        with self.payload.open("rb") as file:
            return file.read(4).startswith(_FUNCTIONS)


def fetch_record(client: Client, task_id: str, attempt: int | None, folder: Path) -> Record:
    """Fetch what a cluster knows of an attempt; ``attempt`` None means the latest.

    Raises:
        CommandError: there is no such attempt, or an input is gone or not there yet.
        RipienoError: there is no such task, its payload is gone, or no server answered.
        OSError: the files cannot be written.
    """
    payload = folder / "payload"
    inputs = client.inputs(task_id, payload)
    number, status, reason = _attempt(client, inputs.task_id, attempt)
    session = client.open_session(inputs.session_id)
    data = _fetched(session, inputs, folder)
    return Record(inputs, number, status, reason, payload, data, session.result_status(list(inputs.expected_outputs)))


def _attempt(client: Client, task_id: str, wanted: int | None) -> tuple[int, TaskStatus, str]:
    """Return number, status and reason of an attempt."""
    where = "task_id='" + re.sub(r"(['\\])", r"\\\1", task_id) + "'"
    found = {each.number: each for each in client.list_attempts(where)}
    number = max(found, default=0) if wanted is None else wanted
    if number not in found:
        text = f"task {task_id!r} has no attempt {number}"
        if found:
            text += f"; it has {', '.join(map(str, sorted(found)))}"
        elif wanted is None:
            return 0, TaskStatus.SUBMITTED, ""
        raise CommandError(text, ExitCode.NOT_FOUND)
    each = found[number]
    return number, each.status, each.error or ""


def _fetched(session: Session, inputs: TaskInputs, folder: Path) -> dict[str, Path]:
    """Fetch the data dependencies."""
    keys = list(dict.fromkeys(inputs.dependencies))
    statuses = session.result_status(keys)
    for key in keys:
        status = statuses.get(key)
        if status is not ResultStatus.COMPLETED:
            what = "nobody has announced it" if status is None else f"it is {status.name}"
            raise CommandError(
                f"input {key!r} of task {inputs.task_id!r} is not there ({what}), so the task cannot be run here;"
                f" `ripieno explain {inputs.task_id}` says more",
                ExitCode.REFUSED,
            )
    data: dict[str, Path] = {}
    for number, key in enumerate(keys):
        data[key] = folder / f"data-{number}"
        session.download(key, data[key])
    return data


class SessionData(Mapping[str, bytes]):
    """The results of a session, read when a handler asks for them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __contains__(self, key: object) -> bool:
        """Return whether there is a completed result of that key."""
        if not isinstance(key, str):
            return False
        try:
            return self._session.result_status(key).get(key) is ResultStatus.COMPLETED
        except RipienoError:
            return False

    def __getitem__(self, key: str) -> bytes:
        """Return the bytes of a completed result."""
        return self._session.result(key)

    def __iter__(self) -> Iterator[str]:
        """Raise TypeError: a session may have any number of results."""
        raise TypeError("the results of a session are asked for by key")

    def __len__(self) -> int:
        """Raise TypeError, as iterating does."""
        raise TypeError("the results of a session are asked for by key")
