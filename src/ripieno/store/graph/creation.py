"""Creation of tasks inside a transaction: phases 3 to 5 of ``ripieno.store``.

Submissions of clients and sub-tasks of workers are both created here. The caller holds the gates.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import AlreadyExistsError, ConflictError
from ripieno.domain.options import PARKED_PARTITION
from ripieno.domain.statuses import ResultStatus
from ripieno.domain.submission import NewTask
from ripieno.store.database.database import Connection
from ripieno.store.database.literals import array_literal
from ripieno.store.database.queries import Queries
from ripieno.store.sessions.counts import Tally
from ripieno.store.sessions.sessions import KnownOptions

SQL = Queries("submission")
_TIMERS = Queries("timers")

#: The session of a result, and its key. Sorted pairs are in the order in which rows are locked.
Key = tuple[int, str]


class Created(NamedTuple):
    """What follows from tasks that were created.

    Attributes:
        aborted: Dependencies that are ABORTED or DELETED already, each with a number below those of the tasks that
            wait for it: the caller must fail these tasks (``store.graph.cuts``).
        due_in_s: In how many seconds the first timer of the tasks is due; None if they have none.
    """

    aborted: dict[Key, int]
    due_in_s: float | None


class PlannedTask(NamedTuple):
    """A task with its number.

    Attributes:
        delegated: Expected outputs of the task that pass to it from its parent ``parent_no``.
        parked: Whether its session is paused, so that no agent is given the task.
    """

    task_no: int
    session_no: int
    options: KnownOptions
    task: NewTask
    parent_no: int | None = None
    delegated: frozenset[str] = frozenset()
    parked: bool = False

    @property
    def partition(self) -> str:
        """The partition under which the task waits for an agent."""
        return PARKED_PARTITION if self.parked else self.options.options.partition

    def new_keys(self) -> list[Key]:
        """Return the keys that this task announces: its expected outputs without delegated ones."""
        if not self.delegated:
            return [(self.session_no, key) for key in self.task.expected_output_keys]
        return [(self.session_no, key) for key in self.task.expected_output_keys if key not in self.delegated]

    def dependencies(self) -> list[Key]:
        """Return the distinct dependencies of the task, its payload included if that is a result."""
        return [(self.session_no, key) for key in self.task.needs()]

    @property
    def needs_something(self) -> bool:
        """Whether the task has dependencies."""
        return bool(self.task.data_dependencies) or self.task.payload_key is not None


async def task_numbers(connection: Connection, count: int) -> list[int]:
    """Take the next numbers in the order of submission."""
    numbers: list[int] = await connection.fetchval(SQL.task_numbers, count)
    return numbers


async def create_tasks(
    connection: Connection, planned: Sequence[PlannedTask], also_lock: Iterable[Key] = ()
) -> Created:
    """Write tasks, their results, dependencies, payloads and timers.

    Args:
        connection: The session, in its transaction.
        planned: The tasks, with their numbers.
        also_lock: Existing keys that the caller is about to change; they are locked together with
            those of the tasks, so that phase 4 is passed once.

    Raises:
        AlreadyExistsError: an id or a key is taken. The transaction must be rolled back.
        ConflictError: the data of a large payload are gone, or in use already. The transaction must be rolled back.
    """
    owners: dict[Key, int] = {}
    for task in planned:
        for key in task.new_keys():
            if owners.setdefault(key, task.task_no) != task.task_no:
                raise AlreadyExistsError("result keys", [key[1]])
    dependencies = {key for task in planned if task.needs_something for key in task.dependencies()}
    statuses = await _settle_keys(connection, owners, dependencies, set(also_lock))
    unmet = {key for key in dependencies if statuses[key] is not ResultStatus.COMPLETED}
    await _insert(connection, planned, unmet)
    due_in_s = await _begin_timers(connection, planned)
    return Created(_aborted(planned, {key for key in dependencies if statuses[key].unobtainable}), due_in_s)


def _aborted(planned: Sequence[PlannedTask], aborted: set[Key]) -> dict[Key, int]:
    before: dict[Key, int] = {}
    for task in planned if aborted else ():
        for key in aborted.intersection(task.dependencies()):
            before[key] = min(before.get(key, task.task_no), task.task_no - 1)
    return before


async def _settle_keys(
    connection: Connection, owners: Mapping[Key, int], dependencies: set[Key], also_lock: set[Key]
) -> Mapping[Key, ResultStatus]:
    """Announce the new keys, lock all keys, and return their statuses (phases 3 and 4)."""
    keys = sorted(owners.keys() | (dependencies - also_lock))
    named = 0
    if keys:
        awaited = [key in dependencies for key in keys] if dependencies else [False] * len(keys)
        tag = await connection.execute(SQL.name_keys, *columns(keys), [owners.get(key) for key in keys], awaited)
        named = written_rows(tag)
    if named == len(keys) and not also_lock:
        return dict.fromkeys(keys, ResultStatus.CREATED)
    await lock_open_keys(connection, also_lock.union(keys))
    rows = await connection.fetch(SQL.read_keys, *columns(keys + sorted(dependencies & also_lock)))
    found = {(row["session_no"], row["key"]): row for row in rows}
    statuses = {key: ResultStatus(row["status"]) for key, row in found.items()}
    # A result that a client has created, and nobody has uploaded yet, becomes the task's.
    taken = [
        key
        for key, owner in owners.items()
        if found[key]["owner_no"] not in (None, owner) or (found[key]["owner_no"] is None and statuses[key].final)
    ]
    if taken:
        raise AlreadyExistsError("result keys", sorted(key[1] for key in taken))
    announced = sorted(key for key in owners if found[key]["owner_no"] is None)
    if announced:
        await connection.execute(SQL.announce_keys, *columns(announced), [owners[key] for key in announced])
        statuses |= dict.fromkeys(announced, ResultStatus.CREATED)
    newly_awaited = sorted(key for key in dependencies if not (found[key]["awaited"] or statuses[key].final))
    if newly_awaited:
        await connection.execute(SQL.mark_awaited, *columns(newly_awaited))
    return statuses


async def _insert(connection: Connection, planned: Sequence[PlannedTask], unmet: set[Key]) -> None:
    """Insert the tasks with their states, dependencies, payloads and counts (phase 5)."""
    waits = [(key, task.task_no) for task in planned for key in task.dependencies() if key in unmet] if unmet else []
    unmet_of = Counter(task_no for _, task_no in waits)
    by_id = sorted(planned, key=lambda planned_task: planned_task.task.id)
    created = await connection.fetchval(
        SQL.insert_tasks,
        [task.task_no for task in by_id],
        [task.session_no for task in by_id],
        [task.options.options_no for task in by_id],
        [task.task.id for task in by_id],
        [array_literal(task.task.expected_output_keys) for task in by_id],
        [array_literal(task.task.data_dependencies) for task in by_id],
        # A task that waits for its time has one more unmet dependency: its timer.
        [unmet_of[task.task_no] + task.options.options.is_delayed for task in by_id],
        [task.options.options.max_retries for task in by_id],
        [task.options.options.priority for task in by_id],
        [task.partition for task in by_id],
        [_inline_payload(task.task) for task in by_id],
        [task.task.payload_key for task in by_id],
    )
    if created != len(by_id):
        raise AlreadyExistsError("task ids", await _taken_ids(connection, by_id))
    if waits:
        await connection.execute(
            SQL.insert_dependencies, *columns([key for key, _ in waits]), [task_no for _, task_no in waits]
        )
    tally, objects = Tally(), []
    for each in planned:
        if isinstance(each.task.payload, StoredObject):
            objects.append((each.task_no, each.task.payload))
            tally.store(each.session_no, each.task.payload.size)
    await link_objects(connection, objects)
    await tally.write(connection)


async def _begin_timers(connection: Connection, planned: Sequence[PlannedTask]) -> float | None:
    timed = [task.task_no for task in planned if task.options.options.sets_timer]
    return await connection.fetchval(_TIMERS.begin_timers, timed) if timed else None


def _inline_payload(task: NewTask) -> bytes | None:
    return task.payload if isinstance(task.payload, bytes) and task.payload_key is None else None


async def _taken_ids(connection: Connection, by_id: Sequence[PlannedTask]) -> list[str]:
    """Return the ids that other tasks have, or that several of the planned tasks have."""
    own = {task.task_no for task in by_id}
    rows = await connection.fetch(SQL.taken_ids, [task.task.id for task in by_id])
    taken = {row["id"] for row in rows if row["task_no"] not in own}
    doubled = {task.task.id for task, after in pairwise(by_id) if task.task.id == after.task.id}
    return sorted(taken | doubled)


async def link_objects(connection: Connection, objects: Sequence[tuple[int, StoredObject]]) -> None:
    """Link objects in the object store, each under its blob number.

    Raises:
        ConflictError: an object was collected as garbage before a blob linked it, or
            a blob has linked it already. The transaction must be rolled back.
    """
    if objects:
        tag = await connection.execute(
            SQL.insert_objects,
            [number for number, _ in objects],
            [stored.size for _, stored in objects],
            [stored.name for _, stored in objects],
            [stored.sha256 for _, stored in objects],
        )
        if written_rows(tag) != len(objects):
            raise ConflictError(
                "large data are gone: they were not used within a day of being written, or are in use already;"
                " write them again"
            )


async def lock_open_keys(connection: Connection, keys: Iterable[Key]) -> None:
    """Lock those of the keys that are not final, in order (phase 4)."""
    await connection.execute(SQL.lock_open_keys, *columns(sorted(keys)))


def columns(keys: Sequence[Key]) -> tuple[list[int], list[str]]:
    """Return keys as two columns: session numbers and names."""
    return [key[0] for key in keys], [key[1] for key in keys]


def written_rows(tag: str) -> int:
    """Return how many rows a command wrote, from its tag (``INSERT 0 512``)."""
    return int(tag.rpartition(" ")[2])
