"""``Outage``: logs once that a connection's servers are not available, however many calls notice."""

import logging
import time
from collections.abc import Callable

_LOG = logging.getLogger("ripieno.client")

#: Least time between two warnings that an outage has begun: some calls may succeed in the middle of one.
_QUIET_S = 5.0


class Outage:
    """Whether the servers of a connection are available, as reported by calls that fail and that succeed.

    Attributes:
        has_answered: Whether a server has ever answered, so that it is known what listens at the address.

    Args:
        address: The servers' address, for messages.
        patience_s: How long each call is repeated, in seconds. With 0 no outage is logged.
        on_failure: Called for each call that finds no server.
    """

    def __init__(self, address: str, patience_s: float, on_failure: Callable[[], None]) -> None:
        self.has_answered = False
        self._address = address
        self._patience_s = patience_s
        self._on_failure = on_failure
        self._told_at = float("-inf")
        self._is_told = False

    def noticed(self, purpose: str, detail: str) -> None:
        """Report a call that found no server; ``purpose`` and ``detail`` go into the warning."""
        self._on_failure()
        now = time.monotonic()
        if not self._is_told and now - self._told_at >= _QUIET_S and self._patience_s > 0:
            self._is_told, self._told_at = True, now
            _LOG.warning(
                "%s: %s is not available (%s); calls are repeated for up to %g s",
                purpose,
                self._address,
                detail,
                self._patience_s,
            )

    def over(self) -> None:
        """Report a call that succeeded, which ends the outage."""
        self.has_answered = True
        if self._is_told:
            self._is_told = False
            _LOG.warning("%s is available again", self._address)
