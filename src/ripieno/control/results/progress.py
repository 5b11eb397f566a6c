"""How far attempts that run have come, for clients.

Their agents alone know. All agents are asked, every ``ASK_EVERY_S`` as long as somebody follows the session: those of
other replicas by the notices between replicas. What they send is written into the database (``live_progress``) for
as long as somebody follows, and whoever follows looks there every ``LOOK_EVERY_S``. As with what attempts print
(``outputs``): a question that is lost is asked again, and a client that reads slowly is told the latest when it does.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ripieno.control.waiting.notices import Notices
from ripieno.domain.errors import NotFoundError, OverloadedError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.progress import Progress
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.reading.lookup import find_tasks, session_numbers
from ripieno.store.reading.progress import AttemptProgress, progress_in_session, session_is_there
from ripieno.store.sessions.changes import Changes

#: Seconds between two looks at a session that is followed.
LOOK_EVERY_S = 0.5
#: Seconds after which the agents are asked anew; they go on to send for three times as long.
ASK_EVERY_S = 5.0
#: How long agents have for an answer to somebody who does not follow, and the pause between looks for it.
_ANSWER_S = 1.5
_LOOK_AGAIN_S = 0.1
#: The most followers through one replica: each costs two look-ups a second.
MOST_FOLLOWED = 200
#: A row is seen when its transaction has ended, which may be this much later than the time in it.
_LATE = timedelta(seconds=10)
_HELD = (TaskStatus.DISPATCHED, TaskStatus.PROCESSING, TaskStatus.CANCELLING)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose progress is meant: that of all attempts of a session, or of one task's.

    Attributes:
        is_held: Whether an agent may have something to say of it.
    """

    session_no: int
    task_no: int | None = None
    is_held: bool = True


class ProgressReports:
    """Looks up how far attempts have come.

    Args:
        database: The database.
        notices: Tell the replicas which sessions are followed.
    """

    def __init__(self, database: Database, notices: Notices) -> None:
        self._database = database
        self._notices = notices
        self._followed = 0

    async def of_session(self, session_id: str) -> Whose:
        """Return what stands for all tasks of a session.

        Raises:
            InvalidRequestError: if the id breaks a rule.
            NotFoundError: if there is no such session.
        """
        check_identifier("session_id", session_id)
        numbers = await session_numbers(self._database, [session_id])
        if not numbers:
            raise NotFoundError(f"session {session_id!r} does not exist")
        return Whose(numbers[0])

    async def of_task(self, task_id: str) -> Whose:
        """Return what stands for one task; errors as for ``of_session``."""
        check_identifier("task_id", task_id)
        found = (await find_tasks(self._database, [task_id])).get(task_id)
        if found is None:
            raise NotFoundError(f"there is no task {task_id!r}")
        return Whose(found.session_no, found.task_no, found.status in _HELD)

    async def now(self, whose: Whose) -> Sequence[AttemptProgress]:
        """Return how far attempts have come, as soon as an agent has answered, or what is known ``_ANSWER_S`` later."""
        if not whose.is_held:
            return ()
        before = {(each.claim, each.written_at) for each in await self._look(whose, _EVER)}
        self._ask(whose)
        ends_at = time.monotonic() + _ANSWER_S
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            told = await self._look(whose, _EVER)
            if time.monotonic() >= ends_at or any((each.claim, each.written_at) not in before for each in told):
                return told

    async def follow(
        self, whose: Whose, unchanged: Callable[[], None], leaving: "asyncio.Future[Any]"
    ) -> AsyncGenerator[Sequence[AttemptProgress], None]:
        """Yield how far attempts have come whenever some have come further, without an end.

        Args:
            whose: Whose progress is meant.
            unchanged: Raises an error if the database is not the one that was asked first.
            leaving: Fails when nothing may be waited for any more.

        Raises:
            OverloadedError: if too many follow already.
            NotFoundError: once the session was deleted.
        """
        if self._followed >= MOST_FOLLOWED:
            raise OverloadedError(
                f"{MOST_FOLLOWED} callers follow the progress of tasks through this replica already; ask again a little"
                " later, or without following"
            )
        self._followed += 1
        try:
            async with aclosing(self._follow(whose, unchanged, leaving)) as reports:
                async for report in reports:
                    yield report
        finally:
            self._followed -= 1

    async def _follow(
        self, whose: Whose, unchanged: Callable[[], None], leaving: "asyncio.Future[Any]"
    ) -> AsyncGenerator[Sequence[AttemptProgress], None]:
        asked_at, since = float("-inf"), _EVER
        seen: dict[int, tuple[Progress, datetime]] = {}
        while True:
            if time.monotonic() - asked_at > ASK_EVERY_S:
                asked_at = time.monotonic()
                if not await session_is_there(self._database, whose.session_no):
                    raise NotFoundError("the session was deleted")
                self._ask(whose)
            told = await self._look(whose, since)
            unchanged()
            news = [each for each in told if each.claim not in seen or seen[each.claim][0] != each.progress]
            seen |= {each.claim: (each.progress, each.written_at) for each in told}
            if told:
                since = max(since, max(each.written_at for each in told) - _LATE)
                # What is older is not looked at again.
                seen = {claim: entry for claim, entry in seen.items() if entry[1] >= since}
            if news:
                yield news
            await asyncio.wait([leaving], timeout=LOOK_EVERY_S)
            if leaving.done():
                leaving.result()

    async def _look(self, whose: Whose, since: datetime) -> Sequence[AttemptProgress]:
        return await progress_in_session(self._database, whose.session_no, since, whose.task_no)

    def _ask(self, whose: Whose) -> None:
        self._notices.publish(Changes(watched={whose.session_no}))
