"""``Cluster``: functions as tasks."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

from ripieno.client import Client, Session, TaskDefinition, TaskFailedError, TaskOptions, TaskStatus
from ripieno.domain.errors import NotFoundError, SessionStepError
from ripieno.domain.options import DEFAULT_PARTITION
from ripieno.functions.calling import in_use, waiting
from ripieno.functions.calling.chunks import chunk_length, chunks
from ripieno.functions.calling.failing import exception_of, failures_of
from ripieno.functions.calling.future import Delivered, Future
from ripieno.functions.calling.futures import Futures
from ripieno.functions.calling.loops import in_event_loop
from ripieno.functions.calling.private import PrivateCluster
from ripieno.functions.calling.resolving import Resolver
from ripieno.functions.calling.stored import Stored
from ripieno.functions.calling.submitting import Queued, Submissions
from ripieno.functions.showing import html
from ripieno.functions.showing.counting import Count
from ripieno.functions.showing.notebook import show_live
from ripieno.functions.terms.calls import Call, FunctionCode, Submitted, arguments_of, pairs, taken
from ripieno.functions.terms.options import CallOptions
from ripieno.functions.terms.pickling import dumps

P = ParamSpec("P")
T = TypeVar("T")

#: The pickle of a function that is longer is stored once, not sent with each task.
LARGE_CODE_BYTES = 16 * 1024
#: Statuses of tasks that no worker runs, as far as the store knows.
_WAITING = frozenset({TaskStatus.SUBMITTED, TaskStatus.DISPATCHED})


class Cluster:
    """Runs functions on a cluster. Made by ``ripieno.connect``; any thread may use it.

    ::

        with ripieno.connect() as cluster:
            squares = cluster.map(lambda x: x * x, range(1000))
            total = cluster.submit(sum, squares)      # the squares go from task to task
            print(total.result())

    All tasks belong to one session of the cluster. It is closed at the end of the ``with`` block, after what was
    submitted is durable: tasks that have not ended go on. If the block ends with an exception, they are cancelled. A
    session that was given a name stays open, and is joined again by ``connect(session=name)``.

    Attributes:
        client: The client, for everything that is not about functions.
        session: The session.
        private: The cluster that was started for this program; None where one was joined.
    """

    def __init__(
        self, client: Client, session: Session, *, keeps_session: bool, private: PrivateCluster | None = None
    ) -> None:
        self.client = client
        self.session = session
        self.private = private
        self._keeps_session = keeps_session
        self._closing = threading.Lock()
        self._is_closed = False
        self._resolver = Resolver(session, self._delivered, self._exception_of)
        self._submissions = Submissions(session, self._accepted, self._refused)
        # Ids are random bits, drawn once, and a number: unique, and neighbours in the database's index.
        self._prefix = secrets.token_hex(10)
        self._numbers = itertools.count()
        self._code_keys: dict[bytes, str] = {}
        #: Options of the last submission, as said and as sent: those of the next one are the same object, often.
        self._last_options: tuple[CallOptions | None, TaskOptions | None] = None, None

    @property
    def address(self) -> str:
        """The address of the cluster."""
        return self.client.address

    @property
    def is_closed(self) -> bool:
        """Whether the cluster was left."""
        return self._is_closed

    @property
    def session_id(self) -> str:
        """The id of the session that the tasks belong to."""
        return self.session.id

    @overload
    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have the cluster call ``function(*args, **kwargs)``, and return the future of its value at once.

        A future among the arguments, at any depth, stands for its value: the task waits for it. A function that
        returns futures (see ``ripieno.current``) has their values as its own.

        Args:
            function: A function, or one that ``ripieno.task`` has given options.
            kwargs: Arguments of the function, and options of the task: ``priority``, ``max_retries``,
                ``max_duration``, ``partition``, ``retry``, ``delay``, ``deadline`` as in ``CallOptions``; ``after``, futures
                that have to be there first; ``unique_key``, a name within the session: of two tasks with that name the
                second one is the first one.

        Raises:
            NotPicklableError: the function or an argument cannot be sent.
            TypeError: an option is of the wrong kind, or is called like a parameter of the function.
            InvalidRequestError: an option is out of range.
            RuntimeError: the cluster is closed.
        """
        self._require_open()
        code = FunctionCode.of(function, self.session_id)
        said = taken(kwargs, code.function, code.options)
        return self.submit_code(code, args, kwargs, said)

    def submit_code(
        self,
        code: FunctionCode,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        said: Submitted,
        made: type[Future[Any]] = Future,
    ) -> Future[Any]:
        """Submit a call whose keyword arguments are all the function's; for adapters to other libraries.

        Args:
            said: What ``submit`` takes out of its keyword arguments, the options of ``code`` included.
            made: The class of the future.

        Raises:
            RuntimeError, TypeError, RipienoError: as for ``submit``.
        """
        self._require_open()
        call = code.called(args, kwargs, said, self.session_id, self._placed)
        future = made(self, self._new_id(said), call.name)
        self._add([self._queued(call, said, [future])])
        return future

    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        chunk: int | Literal["auto"] = "auto",
        **options: Any,
    ) -> list[Future[T]]:
        """Have the cluster call a function for each item, or for the items of several iterables taken together.

        Args:
            function: As for ``submit``.
            iterables: Read to their ends first; the shortest one says how many calls there are.
            chunk: How many calls share a task. ``"auto"``: one up to 1,000 calls, then as many as make 1,000 tasks,
                100 at most. Calls that share a task share its retries and its time limit.
            options: As for ``submit``.

        Returns:
            One future for each call, in order: a list that says how far they have come.

        Raises:
            RuntimeError, TypeError, RipienoError: as for ``submit``.
        """
        self._require_open()
        code = FunctionCode.of(function, self.session_id)
        said = taken(options, code.function, code.options)
        if options:
            raise TypeError(f"map has no option {', '.join(sorted(options))}; bind arguments with functools.partial")
        if said.unique_key is not None:
            raise TypeError("map takes no unique_key, as its tasks cannot share one")
        if not iterables:
            raise TypeError("map takes a function and at least one iterable")
        return self.map_code(code, list(zip(*iterables, strict=False)), chunk, said)

    def map_code(
        self,
        code: FunctionCode,
        items: Sequence[tuple[Any, ...]],
        chunk: int | Literal["auto"],
        said: Submitted,
        made: type[Future[Any]] = Future,
    ) -> Futures[Any]:
        """Submit a call for each tuple of arguments, ``chunk`` of them in a task; for adapters, as ``submit_code``."""
        self._require_open()
        length = chunk_length(chunk, len(items))
        placed = self._placed(code.pickled.data)
        queued, futures = [], Futures[Any]()
        for part in chunks(items, length):
            key = self._new_id(said)
            if length == 1:
                together = [made(self, key, code.name)]
                arguments = arguments_of(f"call {len(futures) + 1} of {code.name}", part[0], {}, self.session_id)
            else:
                together = [made(self, key, code.name, place) for place in range(len(part))]
                arguments = pairs(part, code.name, self.session_id, len(futures))
            call = code.call(arguments, said, placed, each=length > 1)
            queued.append(self._queued(call, said, together))
            futures += together
        self._add(queued)
        return futures

    def put(self, value: T, *, name: str = "") -> Stored[T]:
        """Store a value in the cluster once, for any number of tasks, and return what stands for it in arguments.

        Workers fetch it when they first need it, and keep it for further tasks; each task has a copy of its own.

        Raises:
            NotPicklableError: the value cannot be sent.
            RipienoError: the session takes no data, or no server answered.
        """
        self._require_open()
        dumped = dumps(value, "the value", None)
        return Stored(self, self.session.put(dumped.data, name=name), name)

    def gather(self, futures: Any, *, errors: Literal["raise", "return"] = "raise", progress: bool = True) -> Any:
        """Wait for futures and return their values in the same shape; see ``ripieno.gather``."""
        return waiting.gather(futures, errors=errors, progress=progress)

    def as_completed(
        self, futures: Iterable[Future[T]], timeout: float | None = None, *, progress: bool = True
    ) -> Iterator[Future[T]]:
        """Yield futures as they complete; see ``ripieno.as_completed``."""
        return waiting.as_completed(futures, timeout, progress=progress)

    def wait(
        self, futures: Iterable[Future[Any]], timeout: float | None = None, return_when: str = waiting.ALL_COMPLETED
    ) -> waiting.Waited:
        """Wait for futures; see ``ripieno.wait``."""
        return waiting.wait(futures, timeout, return_when)

    def cancel(self, futures: Future[Any] | Iterable[Future[Any]]) -> None:
        """Cancel the tasks of futures that are not done, whether they run or not."""
        self.cancel_futures([futures] if isinstance(futures, Future) else list(futures))

    def cancel_futures(self, futures: Sequence[Future[Any]]) -> int:
        """Cancel the tasks of futures; return how many futures were not done."""
        cancelled = [future for future in futures if future.cancel_here()]
        if cancelled:
            # What is queued was submitted before it is cancelled, so that it cannot be submitted afterwards.
            self._submissions.flush()
            self.session.cancel_tasks(list(dict.fromkeys(future.key for future in cancelled)))
        return len(cancelled)

    def cancel_waiting(self, futures: Iterable[Future[Any]]) -> int:
        """Cancel the tasks that no worker runs yet, as far as is known; return how many futures were cancelled.

        The cluster knows of a task that runs a tenth of a second after it began: one that began since is
        cancelled while it runs.
        """
        asked = [future for future in futures if not future.done()]
        if not asked:
            return 0
        self._submissions.flush()  # what no server knows of has been refused, or waits
        statuses = self.session.status(dict.fromkeys(future.key for future in asked))
        return self.cancel_futures([each for each in asked if statuses.get(each.key, TaskStatus.SUBMITTED) in _WAITING])

    def slots(self) -> int:
        """Ask the cluster how many tasks of this session it runs at a time; agents may come and go.

        Raises:
            RipienoError: no server answered.
        """
        options = self.session.task_options or TaskOptions()
        name = options.partition or DEFAULT_PARTITION
        return sum(partition.slots for partition in self.client.list_partitions() if partition.name == name)

    def flush(self) -> None:
        """Wait until all that was submitted is durable in the cluster, or refused."""
        self._submissions.flush()

    def fetch(self, key: str) -> bytes:
        """Return the bytes of a result that is there; for futures."""
        return self.session.result(key)

    def close(self, *, cancel: bool = False) -> None:
        """Leave the cluster once what was submitted is durable; may be repeated.

        Args:
            cancel: Whether tasks that have not ended are cancelled. The private cluster ends with its tasks.
        """
        if not self._closing.acquire(blocking=not self._resolver.is_current):
            return  # in a callback, for which the thread that closes the cluster waits
        with ExitStack() as steps:
            steps.callback(self._closing.release)
            if not self._is_closed:
                self._is_closed = True
                in_use.leave(self)
                # All of these happen, whichever of them fails; the first failure is raised.
                if self.private is not None:
                    steps.callback(self.private.close)
                steps.callback(self._resolver.close)
                steps.callback(self.client.close)
                steps.callback(self._resolver.flush)  # while callbacks can still fetch large values
                steps.enter_context(suppress(SessionStepError, NotFoundError))  # somebody else has ended the session
                self._submissions.flush()
                if cancel:
                    self.session.cancel()
                elif not self._keeps_session and self.private is None:
                    self.session.close_session()

    def __enter__(self) -> Self:
        """Return the cluster itself, which is the default for libraries until it is closed."""
        in_use.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster; after an exception the tasks that have not ended are cancelled."""
        self.close(cancel=error is not None and not self._keeps_session)

    async def __aenter__(self) -> Self:
        """Return the cluster itself, which is the default for libraries until it is closed."""
        in_use.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster as the ``with`` statement does, without keeping the event loop waiting."""
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def __repr__(self) -> str:
        """Show the address and the session."""
        kind = "private, " if self.private is not None else ""
        return f"<Cluster {kind}at {self.address}, session {self.session_id!r}{', closed' if self._is_closed else ''}>"

    def count(self) -> Count:
        """Return how many tasks were submitted here, and how far they have come. Nothing is asked of the cluster."""
        pending = self._submissions.pending + self._resolver.pending
        return Count(self._resolver.ended + pending, self._resolver.ended, self._resolver.failed)

    def _repr_html_(self) -> str:
        """Show the address, the session, and how far the tasks have come that were submitted here."""
        kind = "Private cluster" if self.private is not None else "Cluster"
        fields = {"address": self.address, "session": self.session_id}
        return html.card(kind + (", closed" if self._is_closed else ""), fields, html.bar(self.count(), "tasks"))

    def _ipython_display_(self) -> None:
        """Show the same in a notebook, drawn anew until the tasks have ended."""
        show_live(self, lambda cluster: cluster.count().is_over)

    def __reduce__(self) -> Any:
        """Refuse to be pickled: a function that runs as a task uses ``ripieno.current()``."""
        raise TypeError("a Cluster cannot be sent to a task; in a task, submit with ripieno.current().submit(...)")

    # ------------------------------------------------------------ submitting

    def _new_id(self, said: Submitted) -> str:
        if said.unique_key is not None:
            # Ids of tasks are global: the session's id keeps equal names of two sessions apart.
            return "unique-" + hashlib.sha256(f"{self.session_id}\0{said.unique_key}".encode()).hexdigest()[:40]
        return f"{self._prefix}-{next(self._numbers)}"

    def _queued(self, call: Call, said: Submitted, futures: Sequence[Future[Any]]) -> Queued:
        last, options = self._last_options
        if said.options is not last:
            options = said.options.applied_to(self.session.task_options or TaskOptions())
            if options is not None:
                options.checked()  # here, where the caller sees it
            self._last_options = said.options, options
        definition = TaskDefinition(call.payload, (), call.dependencies, futures[0].key)
        return Queued(definition, options, futures, said.unique_key is not None)

    def _add(self, queued: Sequence[Queued]) -> None:
        self._submissions.add(queued, may_wait=not in_event_loop())

    def _placed(self, code: bytes) -> bytes | str:
        """Return a function's pickle, or the key that a large one is stored under."""
        if len(code) <= LARGE_CODE_BYTES:
            return code
        digest = hashlib.sha256(code).digest()
        key = self._code_keys.get(digest)
        if key is None:
            key = self._code_keys[digest] = self.session.put(code, name="code of a function").key
        return key

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the cluster is closed")

    # ------------------------------------------------------------ called on the client's loop

    def _accepted(self, tasks: Sequence[Queued]) -> None:
        self._resolver.follow(future for task in tasks for future in task.futures)

    def _refused(self, tasks: Sequence[Queued], error: BaseException) -> None:
        futures = [future for task in tasks for future in task.futures]
        self._resolver.deliver([lambda each=future: each.fail(error) for future in futures])  # type: ignore[misc]

    def _delivered(self, key: str, data: bytes | None) -> Delivered:
        return Delivered(self, key, data)

    async def _exception_of(self, error: TaskFailedError) -> BaseException:
        # Aside, since unpickling an exception of anybody may take long, and all clients share this loop.
        return await asyncio.to_thread(exception_of, error, *await failures_of(self.session.target, error))
