"""The session of a map: found or created by its name, so that another run of the same job goes on in it."""

from itertools import count

from ripieno.client import (
    AlreadyExistsError,
    AsyncClient,
    AsyncSession,
    InvalidRequestError,
    NotFoundError,
    SessionStepError,
    TaskOptions,
)


async def session_of(client: AsyncClient, name: str, options: TaskOptions, *, fresh: bool) -> tuple[AsyncSession, bool]:
    """Return the session of a job, and whether it was there before. It runs when this returns, if it was paused.

    The id of a session that was deleted cannot be used again; the next one has a number at its end.

    Args:
        client: The client.
        name: The job's name.
        options: The session's default options, if it has yet to be created.
        fresh: Delete the session that there is, and begin another one.

    Raises:
        InvalidRequestError: the session takes no more tasks; the text says the way out.
        RipienoError: the cluster refused something, or none answered.
    """
    for number in count(1):
        session_id = name if number == 1 else f"{name}-{number}"
        session = await _opened(client, session_id)
        if session is None:
            try:
                created = await client.session(
                    id=session_id,
                    priority=options.priority,
                    max_retries=options.max_retries,
                    max_duration=options.max_duration,
                    partition=options.partition,
                )
            except AlreadyExistsError:
                session = await _opened(client, session_id)  # another run has just created it
                if session is None:
                    continue  # it was deleted
            else:
                return created, False
        if fresh:
            await session.delete()
            fresh = False
            continue
        try:
            await session.resume()
        except SessionStepError as error:
            raise InvalidRequestError(
                "--name",
                f"session {session_id!r} takes no more tasks ({error.detail}): run with --fresh, which deletes it and runs"
                " all inputs anew, or choose another name",
            ) from error
        return session, True
    raise AssertionError("numbers do not end")


async def _opened(client: AsyncClient, session_id: str) -> AsyncSession | None:
    try:
        return await client.open_session(session_id)
    except NotFoundError:
        return None
