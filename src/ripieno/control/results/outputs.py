"""What attempts print, for clients: what is kept of those that have ended, and what those that run have printed so far.

Of an attempt that runs its agent alone knows the output. The agent is asked for it, every ``ASK_EVERY_S`` as long as
somebody follows: by the replica that it is connected to, which the notices between replicas reach. What it sends
is written into the database (``live_outputs``), and whoever follows looks there every ``LOOK_EVERY_S``.
A question that is lost on its way is asked again, and nothing waits for a client: one that reads slowly
misses what is not kept any more when it looks again, and is told how much that was.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ripieno.control.waiting.notices import Notices
from ripieno.domain.errors import InvalidRequestError, NotFoundError, OverloadedError
from ripieno.domain.identifiers import LARGEST_ATTEMPT, attempt_of_alias, check_identifier
from ripieno.domain.output import AttemptOutput
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import FoundTask, find_tasks
from ripieno.store.reading.outputs import AttemptState, output_of_attempt
from ripieno.store.sessions.changes import Changes

#: Seconds between two looks at an attempt that is followed.
LOOK_EVERY_S = 0.5
#: Seconds after which the agent is asked anew; it goes on to send for three times as long.
ASK_EVERY_S = 5.0
#: How long an agent has for an answer to somebody who does not follow, and the pause between looks for it.
_ANSWER_S = 1.5
_LOOK_AGAIN_S = 0.1
#: The most attempts that are followed through one replica: each costs two look-ups a second.
MOST_FOLLOWED = 200


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
        notices: Tell the replicas which attempts are followed.
    """

    def __init__(self, database: Database, notices: Notices) -> None:
        self._database = database
        self._notices = notices
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
        if attempt is not None and not 0 <= attempt <= LARGEST_ATTEMPT:
            raise InvalidRequestError("attempt", f"is {attempt}; attempts are numbered from 0")
        found = (await find_tasks(self._database, [task_id])).get(task_id)
        if found is None:
            raise NotFoundError(f"there is no task {task_id!r}")
        if attempt is None and found.id != task_id:
            attempt = min(attempt_of_alias(task_id), LARGEST_ATTEMPT)
        state = await self._look(found, attempt)
        unchanged()
        if not follow and state.ticket is not None:
            state = await self._latest(found, state)
            unchanged()
        if state.over or not follow:
            yield Piece(state.attempt, _Seen().news(state.output), state.over)
            return
        if self._followed >= MOST_FOLLOWED:
            raise OverloadedError(
                f"{MOST_FOLLOWED} attempts are followed through this replica already; ask again a little later,"
                " or without following"
            )
        self._followed += 1
        try:
            async with aclosing(self._follow(found, state, unchanged, leaving)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._followed -= 1

    async def _follow(
        self, task: FoundTask, state: AttemptState, unchanged: Callable[[], None], leaving: "asyncio.Future[Any]"
    ) -> AsyncGenerator[Piece, None]:
        seen, asked, asked_at = _Seen(), state.ticket, 0.0
        while True:
            if state.ticket is not None and (state.ticket != asked or time.monotonic() - asked_at > ASK_EVERY_S):
                if state.ticket != asked:
                    seen = _Seen()  # given back, and begun anew under the same number
                asked, asked_at = state.ticket, time.monotonic()
                self._ask(state)
            news = seen.news(state.output)
            if news.total or state.over:
                yield Piece(state.attempt, news, state.over)
            if state.over:
                return
            await asyncio.wait([leaving], timeout=LOOK_EVERY_S)
            if leaving.done():
                leaving.result()
            state = await self._look(task, state.attempt)
            unchanged()

    async def _latest(self, task: FoundTask, before: AttemptState) -> AttemptState:
        """Ask the agent that runs an attempt, and return the state as soon as it has answered, or ``_ANSWER_S`` later."""
        self._ask(before)
        ends_at = time.monotonic() + _ANSWER_S
        state = before
        while not state.over and state.written_at == before.written_at and time.monotonic() < ends_at:
            await asyncio.sleep(_LOOK_AGAIN_S)
            state = await self._look(task, before.attempt)
        return state

    def _ask(self, state: AttemptState) -> None:
        if state.ticket is not None and state.agent_no is not None:
            self._notices.publish(Changes(followed=[(state.agent_no, state.ticket)]))

    async def _look(self, task: FoundTask, attempt: int | None) -> AttemptState:
        state = await output_of_attempt(self._database, task.task_no, attempt)
        if state is None:
            raise NotFoundError(f"there is no task {task.id!r} any more")
        if state.attempt > state.latest:
            raise NotFoundError(f"task {task.id!r} has no attempt {state.attempt}; its latest is {state.latest}")
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
