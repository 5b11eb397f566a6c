"""The catalogue of fields: what lists of sessions, tasks, attempts, results, agents, partitions and options tell.

For each field it says of what kind its values are, whether a row may be without one, who may see it, and what an
index of the store carries. Columns and joins are the store's affair (``store.reading.columns``, keyed by the names here),
so that this module, like all of the domain, knows nothing of SQL.

Options have fields of their own under the name of the options: ``options.priority``, and ``options.KEY`` for any key of
the free map. ``options.options.KEY`` names the same key, also where it is called as a field is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, IntEnum

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.domain.texts import is_encodable


class Listed(Enum):
    """What can be listed; the value is its name in texts."""

    SESSIONS = "sessions"
    TASKS = "tasks"
    ATTEMPTS = "attempts"
    RESULTS = "results"
    AGENTS = "agents"
    PARTITIONS = "partitions"
    OPTIONS = "options"


class Kind(Enum):
    """The kind of a field's values, each with one Python type; the value is the kind's name in texts."""

    TEXT = "a text"  # str
    NUMBER = "a number"  # int
    TIME = "a time"  # datetime, aware
    DURATION = "a duration"  # timedelta
    STATUS = "a status"  # the IntEnum of its statuses
    BOOLEAN = "true or false"  # bool
    TEXTS = "a list of texts"  # Sequence[str]
    OPTIONS = "options of tasks"  # TaskOptions


class Role(Enum):
    """The least that somebody must be to see a field; each role sees what those before it see."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a list.

    Attributes:
        name: Its name, in queries and in the messages of the protocol.
        kind: The kind of its values.
        optional: Whether a row may have no value.
        role: Who may see it.
        sorts: Whether an index carries a sort by it, within one session where there are many.
        finds: Whether an index carries a filter on it.
        statuses: All statuses that it may have; of a field of that kind alone.
        of: Name of the options that it is a part of; empty if it is a field of its own.
        key: Key of the free map of those options that it stands for; None if it stands for none.
    """

    name: str
    kind: Kind
    optional: bool = False
    role: Role = Role.READER
    sorts: bool = False
    finds: bool = False
    statuses: Sequence[IntEnum] = ()
    of: str = ""
    key: str | None = None

    def __hash__(self) -> int:
        return hash(self.name)  # filters of thousands of conditions are grouped by their fields


_SESSION_STATUSES = tuple(status for status in SessionStatus if status is not SessionStatus.DELETED)
_TASK_STATUSES = tuple(TaskStatus)
_RESULT_STATUSES = tuple(status for status in ResultStatus if status is not ResultStatus.NAMED)


def _fields(*fields: Field) -> Mapping[str, Field]:
    return {field.name: field for field in fields}


_CATALOGUE: Mapping[Listed, Mapping[str, Field]] = {
    Listed.SESSIONS: _fields(
        Field("number", Kind.NUMBER, sorts=True, finds=True),
        Field("id", Kind.TEXT, sorts=True, finds=True),
        Field("status", Kind.STATUS, statuses=_SESSION_STATUSES),
        Field("client_submission", Kind.BOOLEAN),
        Field("worker_submission", Kind.BOOLEAN),
        Field("created_at", Kind.TIME),
        Field("cancelled_at", Kind.TIME, optional=True),
        Field("closed_at", Kind.TIME, optional=True),
        Field("purged_at", Kind.TIME, optional=True),
        Field("default_options", Kind.OPTIONS),
    ),
    Listed.TASKS: _fields(
        Field("number", Kind.NUMBER, sorts=True, finds=True),
        Field("id", Kind.TEXT, finds=True),
        Field("session_id", Kind.TEXT, finds=True),
        Field("status", Kind.STATUS, finds=True, statuses=_TASK_STATUSES),
        Field("attempt", Kind.NUMBER),
        Field("unmet_dependencies", Kind.NUMBER),
        Field("submitted_at", Kind.TIME),
        Field("claimed_at", Kind.TIME, optional=True),
        Field("started_at", Kind.TIME, optional=True),
        Field("ended_at", Kind.TIME, optional=True),
        Field("duration", Kind.DURATION, optional=True),
        Field("agent", Kind.TEXT, optional=True),
        Field("worker", Kind.TEXT, optional=True),
        Field("error", Kind.TEXT, optional=True),
        Field("options", Kind.OPTIONS),
        Field("expected_output_keys", Kind.TEXTS),
        Field("data_dependencies", Kind.TEXTS),
        Field("payload_size", Kind.NUMBER, optional=True),
        Field("starts_at", Kind.TIME, optional=True),
        Field("deadline", Kind.TIME, optional=True),
    ),
    Listed.ATTEMPTS: _fields(
        Field("task_number", Kind.NUMBER, sorts=True, finds=True),
        Field("task_id", Kind.TEXT, finds=True),
        Field("session_id", Kind.TEXT, finds=True),
        Field("number", Kind.NUMBER),
        Field("status", Kind.STATUS, statuses=_TASK_STATUSES),
        Field("claimed_at", Kind.TIME, optional=True),
        Field("started_at", Kind.TIME, optional=True),
        Field("ended_at", Kind.TIME, optional=True),
        Field("duration", Kind.DURATION, optional=True),
        Field("agent", Kind.TEXT, optional=True),
        Field("worker", Kind.TEXT, optional=True),
        Field("error", Kind.TEXT, optional=True),
    ),
    Listed.RESULTS: _fields(
        Field("key", Kind.TEXT, sorts=True, finds=True),
        Field("session_id", Kind.TEXT, finds=True),
        Field("status", Kind.STATUS, statuses=_RESULT_STATUSES),
        Field("owner_task_id", Kind.TEXT, optional=True),
        Field("created_at", Kind.TIME),
        Field("ended_at", Kind.TIME, optional=True),
        Field("size", Kind.NUMBER, optional=True),
        Field("name", Kind.TEXT, optional=True),
    ),
    Listed.AGENTS: _fields(
        Field("number", Kind.NUMBER, role=Role.OPERATOR, sorts=True, finds=True),
        Field("id", Kind.TEXT, role=Role.OPERATOR),
        Field("name", Kind.TEXT),
        Field("connected", Kind.BOOLEAN),
        Field("slots", Kind.NUMBER),
        Field("held", Kind.NUMBER),
        Field("partitions", Kind.TEXTS),
        Field("version", Kind.TEXT, role=Role.OPERATOR),
        Field("connected_at", Kind.TIME, role=Role.OPERATOR),
        Field("lease_until", Kind.TIME, role=Role.OPERATOR),
    ),
    Listed.PARTITIONS: _fields(
        Field("name", Kind.TEXT, sorts=True, finds=True),
        Field("agents", Kind.NUMBER),
        Field("slots", Kind.NUMBER),
        Field("busy", Kind.NUMBER),
        Field("claimable", Kind.NUMBER),
    ),
    Listed.OPTIONS: _fields(
        Field("number", Kind.NUMBER, sorts=True, finds=True),
        Field("session_id", Kind.TEXT, finds=True),
        Field("options", Kind.OPTIONS),
    ),
}

#: Fields of options, beside the keys of their free map.
_OF_OPTIONS = {
    "priority": Kind.NUMBER,
    "max_retries": Kind.NUMBER,
    "max_duration": Kind.DURATION,
    "partition": Kind.TEXT,
}
#: Stands before a key of the free map that would otherwise name something else.
_FREE = "options."


def fields_of(listed: Listed) -> Mapping[str, Field]:
    """Return the fields of a list by name, without those of its options."""
    return _CATALOGUE[listed]


def find_field(listed: Listed, name: str, where: str) -> Field:
    """Return the field of that name; ``where`` is the field of the request that names it.

    Raises:
        InvalidRequestError: the list has no such field; the text names the one that was probably meant, and all.
    """
    fields = _CATALOGUE[listed]
    if found := fields.get(name):
        return found
    owner, dot, part = name.partition(".")
    if dot and owner in fields and fields[owner].kind is Kind.OPTIONS:
        return _of_options(fields[owner], name, part, where)
    known = [
        *fields,
        *(f"{each.name}.{part}" for each in fields.values() if each.kind is Kind.OPTIONS for part in _OF_OPTIONS),
    ]
    meant = get_close_matches(name[:100], known, n=1)
    hint = f"did you mean {meant[0]!r}? There" if meant else "there"
    raise InvalidRequestError(where, f"{name[:100]!r} is not a field of {listed.value}; {hint} are {', '.join(known)}")


def _of_options(owner: Field, name: str, part: str, where: str) -> Field:
    if part in _OF_OPTIONS:
        return Field(name, _OF_OPTIONS[part], role=owner.role, of=owner.name)
    key = part.removeprefix(_FREE)
    if not key or "\0" in key or not is_encodable(key):
        raise InvalidRequestError(where, f"{name[:100]!r} names no option; write {owner.name}.KEY")
    return Field(name, Kind.TEXT, optional=True, role=owner.role, of=owner.name, key=key)


def part_of_options(field: Field) -> str:
    """Return the name of a field within its options, such as ``priority``; of one that stands for a key, that key."""
    return field.name.removeprefix(f"{field.of}.") if field.key is None else field.key


def carried(listed: Listed) -> str:
    """Return in words what an index carries in a list, for whoever asked for more than there is time for."""
    fields = _CATALOGUE[listed].values()
    sorts = " or ".join(field.name for field in fields if field.sorts) or "nothing"
    finds = " or ".join(field.name for field in fields if field.finds)
    return f"an index carries a sort by {sorts}, and a filter on {finds}"
