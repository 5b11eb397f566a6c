"""What attempts print, for clients: what is kept of those that have ended, and what those that run have printed so far.

An attempt that runs is asked for by looking again from time to time (``LOOK_EVERY_S``). Nothing waits for a client:
one that reads slowly misses what is not kept any more when it looks again, and is told how much that was.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from ripieno.domain.errors import InvalidRequestError, NotFoundError, OverloadedError
from ripieno.domain.identifiers import attempt_of_alias, check_identifier
from ripieno.domain.output import AttemptOutput
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.reading.outputs import AttemptState, output_of_attempt

#: Seconds between two looks at an attempt that is followed.
LOOK_EVERY_S = 0.5
#: The most attempts that are followed through one replica: each costs two look-ups a second.
MOST_FOLLOWED = 200
#: The largest number of an attempt.
_MOST_ATTEMPTS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Piece:
    """What an attempt has printed since the last piece.

    Attributes:
        attempt: Number of the attempt, from 0.
        output: What was printed since; ``..._left_out`` counts what is missing before it.
        over: Whether the attempt has ended, and this is the last piece.
    """

    attempt: int
    output: AttemptOutput
    over: bool


class Outputs:
    """Looks up what attempts have printed.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followed = 0

    async def pieces(
        self,
        task_id: str,
        attempt: int | None,
        *,
        follow: bool,
        unchanged: Callable[[], None],
        leaving: "asyncio.Future[Any]",
    ) -> AsyncGenerator[Piece, None]:
        """Yield what an attempt has printed so far, and, to ``follow`` it, what it goes on to print until it has ended.

        Args:
            task_id: The task's id, or that of an attempt as workers see it.
            attempt: Number of the attempt, from 0; None means the latest.
            follow: Whether to go on until the attempt has ended.
            unchanged: Raises an error if the database is not the one that was asked first.
            leaving: Fails when nothing may be waited for any more.

        Raises:
            InvalidRequestError: if the id or the number breaks a rule.
            NotFoundError: if there is no such task, or it has no such attempt.
            OverloadedError: if too many attempts are followed already.
        """
        check_identifier("task_id", task_id)
        if attempt is not None and not 0 <= attempt <= _MOST_ATTEMPTS:
            raise InvalidRequestError("attempt", f"is {attempt}; attempts are numbered from 0")
        found = (await find_tasks(self._database, [task_id])).get(task_id)
        if found is None:
            raise NotFoundError(f"there is no task {task_id!r}")
        if attempt is None and found.id != task_id:
            attempt = attempt_of_alias(task_id)
        state = await self._look(found.id, found.task_no, attempt)
        unchanged()
        seen = _Seen()
        if state.over or not follow:
            yield Piece(state.attempt, seen.news(state.output), state.over)
            return
        if self._followed >= MOST_FOLLOWED:
            raise OverloadedError(
                f"{MOST_FOLLOWED} attempts are followed through this replica already; ask again a little later,"
                " or without following"
            )
        self._followed += 1
        try:
            while True:
                news = seen.news(state.output)
                over = state.over
                if news.total or over:
                    yield Piece(state.attempt, news, over)
                if over:
                    return
                await asyncio.wait([leaving], timeout=LOOK_EVERY_S)
                if leaving.done():
                    leaving.result()
                state = await self._look(found.id, found.task_no, state.attempt)
                unchanged()
        finally:
            self._followed -= 1

    async def _look(self, task_id: str, task_no: int, attempt: int | None) -> AttemptState:
        state = await output_of_attempt(self._database, task_no, attempt)
        if state is None:
            raise NotFoundError(f"there is no task {task_id!r} any more")
        if state.attempt > state.latest:
            raise NotFoundError(f"task {task_id!r} has no attempt {state.attempt}; its latest is {state.latest}")
        return state


class _Seen:
    """How much of an attempt's output a client was told of."""

    def __init__(self) -> None:
        self._stdout = self._stderr = 0

    def news(self, output: AttemptOutput | None) -> AttemptOutput:
        """Return the part of an attempt's output that is new, and count it as seen."""
        if output is None:
            return AttemptOutput()
        out, out_left_out = _after(output.stdout, output.stdout_left_out, self._stdout)
        err, err_left_out = _after(output.stderr, output.stderr_left_out, self._stderr)
        self._stdout += len(out) + out_left_out
        self._stderr += len(err) + err_left_out
        return AttemptOutput(out, err, out_left_out, err_left_out)


def _after(data: bytes, left_out: int, seen: int) -> tuple[bytes, int]:
    """Return what follows the first ``seen`` bytes of a stream, and how many bytes are missing before it."""
    new = max(0, left_out + len(data) - seen)
    kept = data[max(0, len(data) - new) :]
    return kept, new - len(kept)
