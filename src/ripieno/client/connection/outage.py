"""What a connection knows of servers that are not available: told once, however many calls notice."""

import logging
import time
from collections.abc import Callable

_LOG = logging.getLogger("ripieno.client")

#: The beginning of an outage is told again after so long at the earliest: some calls may succeed meanwhile.
_QUIET_S = 5.0


class Outage:
    """Told by calls that fail and by calls that succeed.

    Args:
        address: Of the servers.
        patience_s: How long each call is repeated.
        on_failure: Called for each call that fails.
    """

    def __init__(self, address: str, patience_s: float, on_failure: Callable[[], None]) -> None:
        self._address = address
        self._patience_s = patience_s
        self._on_failure = on_failure
        self._told_at = float("-inf")
        self._is_told = False

    def noticed(self, purpose: str, detail: str) -> None:
        """A call found no server."""
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
        """A call succeeded."""
        if self._is_told:
            self._is_told = False
            _LOG.warning("%s is available again", self._address)
