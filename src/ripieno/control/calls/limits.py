"""Limits on what one caller may ask for, and the errors for asking for more.

Each limit is a setting (``ripieno.config.Limits``). A call that asks for more is refused before its
work is done, by a ``LimitError``, or an ``OverloadedError`` where the same may be asked for again later.
The error names the limit, its value, what was asked for and the way out. Limits per client are
counted in this replica alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from ripieno.config import Limits
from ripieno.domain.errors import LimitError, OverloadedError
from ripieno.domain.options import TaskOptions


class Limit:
    """One limit: its value, and the words of its refusal.

    Args:
        name: Name of the setting.
        value: The most that is allowed.
        what: What is counted, as in "this asks for 12 tasks in one call".
        way_out: What the caller can do instead; a sentence without its full stop.
    """

    def __init__(self, name: str, value: int, what: str, way_out: str) -> None:
        self.name = name
        self.value = value
        self._what = what
        self._way_out = way_out

    def check(self, asked: int) -> None:
        """Check that ``asked`` is within the limit.

        Raises:
            LimitError: if ``asked`` is more.
        """
        if asked > self.value:
            raise self.refused(f"{asked:,}")

    def refused(self, asked: str) -> LimitError:
        """Return the error for a caller that asks for ``asked``."""
        return LimitError(self.refusal(asked), self.name)

    def refusal(self, asked: str) -> str:
        """Return the text of the error for a caller that asks for ``asked``."""
        return f"limit {self.name} is {self.value:,}, and this asks for {asked} {self._what}; {self._way_out}"


class Shares:
    """Count of what each client holds of something that is limited per client, such as streams."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, client: str, count: int = 1) -> Iterator[None]:
        """Hold ``count`` more for a client until the block ends.

        Raises:
            OverloadedError: if the client would hold more than the limit; that passes when it holds less.
        """
        if (asked := self._held[client] + count) > self._limit.value:
            raise OverloadedError(self._limit.refusal(f"{asked:,}"))
        self._held[client] += count
        try:
            yield
        finally:
            self._held[client] -= count
            if self._held[client] <= 0:
                del self._held[client]


class Meters:
    """Sum of what the calls of each client hold of something limited per client, as each call reports it on request."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._meters: dict[str, set[Callable[[], int]]] = {}

    def check(self, client: str, more: int) -> None:
        """Check that a client may hold ``more`` beside what its calls hold.

        Raises:
            OverloadedError: if that would be more than the limit; that passes when its calls hold less.
        """
        asked = more + sum([held() for held in self._meters.get(client, ())])
        if asked > self._limit.value:
            raise OverloadedError(self._limit.refusal(f"{asked:,}"))

    @contextmanager
    def counting(self, client: str, held: Callable[[], int]) -> Iterator[None]:
        """Count what a call of this client holds, as the function ``held`` returns it, until the block ends."""
        meters = self._meters.setdefault(client, set())
        meters.add(held)
        try:
            yield
        finally:
            meters.discard(held)
            if not meters:
                self._meters.pop(client, None)


def client_of(peer: str) -> str:
    """Return the client at the other end of a connection, from gRPC's name of the peer: the host without its port.

    A Unix socket has no host: all clients that connect by it count as one.
    """
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer


class ControlLimits:
    """The limits of one replica, each with the words of its refusal."""

    def __init__(self, settings: Limits) -> None:
        def limit(name: str, what: str, way_out: str) -> Limit:
            return Limit(name, getattr(settings, name), what, way_out)

        self.tasks_per_call = limit(
            "tasks_per_call", "tasks in one call", "submit them in several calls (each is atomic by itself)"
        )
        self.keys_per_call = limit(
            "keys_per_call",
            "expected outputs and data dependencies in one call",
            "submit the tasks in several calls, or gather results in steps",
        )
        self.bytes_per_call = limit(
            "bytes_per_call", "bytes in one call", "submit in several calls, and large payloads with CreateLargeTasks"
        )
        self.options_bytes = limit(
            "options_bytes", "bytes of task options", "put what is long into payloads or results"
        )
        #: Agents are told this limit when they connect, and keep to it.
        self.sub_tasks_per_attempt = limit(
            "sub_tasks_per_attempt",
            "sub-tasks of one attempt",
            "create fewer at once, and let them create the others",
        )
        self.ids_per_request = limit("ids_per_request", "ids in one request", "ask in several calls")
        self.ids_per_reply = limit(
            "ids_per_reply",
            "ids in one reply",
            "ask for fewer sessions or statuses, or page with ripieno.v1.Results.ListTaskIds",
        )
        self.keys_per_follow = limit(
            "keys_per_follow", "unfinished keys of one stream", "follow the others when some of these are finished"
        )
        self.submission_memory_bytes = limit(
            "submission_memory_bytes", "bytes of submissions in memory", "send the same again a little later"
        )
        self.streams_per_client = limit(
            "streams_per_client", "streams of one client", "ask for several results over one stream"
        )
        self.waiters_per_client = limit(
            "waiters_per_client", "waiting calls of one client", "wait for several tasks or results in one call"
        )
        self.waited_per_client = limit(
            "waited_per_client",
            "tasks and results that one client waits for",
            "wait for the others when some of these are finished",
        )
        self.unfinished_per_session = limit(
            "unfinished_per_session",
            "unfinished tasks of one session",
            "submit more when some have ended, or open another session",
        )
        self.bytes_per_session = limit(
            "bytes_per_session", "bytes of payloads and results of one session", "go on in another session"
        )
        self.options_per_session = limit(
            "options_per_session",
            "sets of task options in one session",
            "put what differs from task to task into payloads, or open another session",
        )


def check_options(limits: ControlLimits, options: TaskOptions) -> None:
    """Check the size of a set of task options.

    Raises:
        LimitError: if the options are larger than ``options_bytes``.
    """
    if options.options:
        limits.options_bytes.check(options.free_bytes)
