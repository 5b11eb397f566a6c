"""``Patience``: how long one operation is retried while no server answers."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from ripieno.client.connection.outage import Outage
from ripieno.client.terms.errors import from_rpc
from ripieno.domain.errors import OverloadedError, UnavailableError
from ripieno.wire.unreachable import is_no_cluster

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Patience:
    """The retries of one operation: growing pauses, up to a total since the first failure after a success.

    Only errors that are safe to retry are retried: UnavailableError (nothing happened, or what
    happened may be asked for again: reads, and submissions that are identical), and OverloadedError
    where the server says that the overload passes.

    Attributes:
        retries: How many pauses were made so far.
    """

    def __init__(self, seconds: float, address: str, purpose: str, outage: Outage) -> None:
        self.retries = 0
        self._seconds = seconds
        self._outage = outage
        self._address = address
        self._purpose = purpose
        self._pause_s = _FIRST_PAUSE_S
        self._give_up_at: float | None = None

    def renew(self) -> None:
        """Report progress of the operation: pauses and their total begin afresh."""
        self._give_up_at = None
        self._pause_s = _FIRST_PAUSE_S
        self._outage.over()

    async def pause(self, error: grpc.aio.AioRpcError | UnavailableError) -> None:
        """Wait a little before the next try.

        Raises:
            RipienoError: ``error`` is one that must not be retried; the error that stands for it is raised.
            UnavailableError, OverloadedError: the time for retries is used up.
        """
        failure = from_rpc(error) if isinstance(error, grpc.aio.AioRpcError) else error
        if not failure.retry_is_safe:
            raise failure from error
        if self._is_wrong_address(error):
            raise UnavailableError(f"could not {self._purpose} at {self._address}: {failure.detail}") from error
        now = asyncio.get_running_loop().time()
        if self._give_up_at is None:
            self._give_up_at = now + self._seconds
        if isinstance(failure, UnavailableError):
            self._outage.noticed(self._purpose, failure.detail)
        left = self._give_up_at - now
        if left <= 0:
            if isinstance(failure, OverloadedError):
                raise OverloadedError(
                    f"could not {self._purpose}: {self._address} had no room for {self._seconds:g} s ({failure.detail})"
                ) from error
            raise UnavailableError(
                f"could not {self._purpose}: {self._address} did not answer for {self._seconds:g} s"
                f" ({failure.detail}); is the address right and the cluster up?"
            ) from error
        self.retries += 1
        # Pauses are randomized, so that many clients do not come back in step.
        await asyncio.sleep(min(left, self._pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 - not a secret
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def _is_wrong_address(self, error: grpc.aio.AioRpcError | UnavailableError) -> bool:
        """Whether something else than a cluster listens at the only address, which no waiting would mend."""
        return (
            isinstance(error, grpc.aio.AioRpcError)
            and not self._outage.has_answered
            and "," not in self._address
            and is_no_cluster(error.details() or "")
        )


@asynccontextmanager
async def time_limit(seconds: float | None, what: str) -> AsyncIterator[None]:
    """Limit the time that the block may take, in seconds; None means no limit.

    Raises:
        TimeoutError: the block took longer; the message begins with ``what``.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimeoutError(f"{what} after {seconds:g} s") from None
