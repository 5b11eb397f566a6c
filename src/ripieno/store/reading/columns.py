"""Where the fields of the catalogue lie in the tables: for each list its tables, joins, columns and order.

All text here is ours. Values of callers, keys of options among them, are parameters of the statements that
``store.reading.compiler`` makes of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ripieno.domain.catalogue import Field, Kind, Listed, part_of_options
from ripieno.domain.explanations import MOST_AHEAD

#: Kind of a field -> type of the parameters that it is compared with.
PARAMETER_TYPES = {
    Kind.TEXT: "text",
    Kind.NUMBER: "bigint",
    Kind.TIME: "timestamptz",
    Kind.DURATION: "bigint",  # microseconds
    Kind.STATUS: "smallint",
    Kind.BOOLEAN: "boolean",
    Kind.TEXTS: "text",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One field as an expression of SQL.

    Attributes:
        expression: The value. A duration is a number of microseconds, a status its number; no value is null.
        needs: Aliases of the joins that the expression uses.
        by_bytes: Whether the expression is of a text that compares by bytes (collate "C") by itself.
        session_no: For a session's id: the expression of its number, by which an index finds the rows.
        may_be_long: Whether a value may have thousands of bytes.
    """

    expression: str
    needs: Sequence[str] = ()
    by_bytes: bool = False
    session_no: str = ""
    may_be_long: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The tables of one list.

    Attributes:
        table: The FROM clause without the joins.
        key: What tells rows apart, and orders those that are alike otherwise: each expression with its type.
        columns: Field -> column. Fields of options are made of ``options``.
        joins: Alias -> a join, and the aliases that it needs itself; an alias stands behind those that it needs.
        only: A condition that all rows of the list meet.
        options: Alias of the row of options.
        partial: Statuses of which indexes hold no other rows, each set with a condition that its rows meet. Whoever asks for
            none but these is answered from the indexes, if the statement says so in these words.
    """

    table: str
    key: Sequence[tuple[str, str]]
    columns: Mapping[str, Column]
    joins: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    only: str = ""
    options: str = ""
    partial: Sequence[tuple[frozenset[int], str]] = ()

    def column(self, of: Field) -> tuple[Column, str | None]:
        """Return the column of a field, and the parameter ``{key}`` of its expression, if it has one."""
        if not of.of:
            return self.columns[of.name], None
        part, needs = part_of_options(of), self.columns[of.of].needs
        if of.key is not None:
            return Column(f"({self.options}.options ->> {{key}}::text)", needs), of.key
        name = {"max_duration": "max_duration_us"}.get(part, part)
        return Column(f"{self.options}.{name}", needs, by_bytes=part == "partition"), None


def _duration(start: str, end: str) -> str:
    return f"(extract(epoch from ({end} - {start})) * 1000000)::bigint"


def _session(alias: str) -> tuple[str, Sequence[str]]:
    return f"join sessions s on s.session_no = {alias}.session_no", ()


#: The blob of a task whose payload is a result.
_PAYLOAD_OF_RESULT = "(select r.blob_no from results r where r.session_no = t.session_no and r.key = t.payload_key)"
#: A partition that an agent serves; one that names none serves the default partition.
_SERVED = "case when cardinality(a.partitions) = 0 then array['']::text[] else a.partitions end"
#: An agent is shown as connected until its lease has ended. Nobody is given up because of it (``store.cluster.agents``).
_CONNECTED = "(a.lease_until > now() and a.epoch < 9223372036854775807)"

#: Slots of a partition that have a task: what an agent holds beyond its slots waits there, and is not counted.
_BUSY = f"""cross join lateral (
    select coalesce(sum(h.tasks), 0)::bigint as busy
    from agents a
    cross join lateral (
        select count(*) as tasks
        from (select from states st where st.agent_no = a.agent_no and st.claim is not null limit a.slots) as each
    ) as h
    where {_CONNECTED} and p.name = any ({_SERVED})
) as b"""
#: Claimable tasks of a partition, up to as many as explanations count; in the order of their index, so that it is used.
_CLAIMABLE = f"""cross join lateral (
    select count(*) as claimable
    from (
        select from states st where st.partition = p.name and st.status = 1 and st.unmet = 0
        order by st.priority desc, st.task_no limit {MOST_AHEAD}
    ) as each
) as c"""

#: Distinct partitions of all options, each found by one look into the index.
_PARTITIONS = f"""(
    with recursive asked as (
        (select o.partition from options o order by o.partition limit 1)
        union all
        select (select o.partition from options o where o.partition > asked.partition order by o.partition limit 1)
        from asked where asked.partition is not null
    ), served as (
        select each collate "C" as partition, count(*) as agents, sum(a.slots) as slots
        from agents a cross join lateral unnest({_SERVED}) as each
        where {_CONNECTED}
        group by 1
    ), named as (
        select asked.partition from asked where asked.partition is not null union select served.partition from served
    )
    select named.partition as name, coalesce(served.agents, 0) as agents, coalesce(served.slots, 0) as slots
    from named left join served on served.partition = named.partition
) as p"""

SOURCES: Mapping[Listed, Source] = {
    Listed.SESSIONS: Source(
        table="sessions s",
        key=[("s.session_no", "bigint")],
        columns={
            "number": Column("s.session_no"),
            "id": Column("s.id", by_bytes=True),
            "status": Column("s.status"),
            "client_submission": Column("(s.client_submission and s.status in (1, 2))"),
            "worker_submission": Column("(s.worker_submission and s.status in (1, 2))"),
            "created_at": Column("s.created_at"),
            "cancelled_at": Column("s.cancelled_at"),
            "closed_at": Column("s.closed_at"),
            "purged_at": Column("s.purged_at"),
            "default_options": Column("o", ["o"]),
        },
        joins={"o": ("join options o on o.options_no = s.default_options_no", ())},
        options="o",
    ),
    Listed.TASKS: Source(
        table="tasks t",
        key=[("t.task_no", "bigint")],
        columns={
            "number": Column("t.task_no"),
            "id": Column("t.id", by_bytes=True),
            "session_id": Column("s.id", ["s"], by_bytes=True, session_no="t.session_no"),
            "status": Column("st.status", ["st"]),
            "attempt": Column("st.retry", ["st"]),
            # A timer before which a task does not start counts as one in the table.
            "unmet_dependencies": Column(
                "st.unmet - case when st.status = 1 and ts.task_no is not null then 1 else 0 end", ["st", "ts"]
            ),
            "submitted_at": Column("t.submitted_at"),
            "claimed_at": Column("st.claimed_at", ["st"]),
            "started_at": Column("st.started_at", ["st"]),
            "ended_at": Column("st.ended_at", ["st"]),
            "duration": Column(_duration("st.started_at", "st.ended_at"), ["st"]),
            "agent": Column("a.name", ["a"]),
            "worker": Column("nullif(st.worker, '')", ["st"]),
            # The beginning of what ``store.reading.reasons`` tells about one task.
            "error": Column(
                "case when st.failed_input is not null"
                " then 'input ''' || (t.data_dependencies || t.payload_key)[st.failed_input] || ''' was aborted'"
                " when st.status in (4, 13) then coalesce(nullif(st.detail, ''), 'cancelled')"
                " else nullif(st.detail, '') end",
                ["st"],
                may_be_long=True,
            ),
            "options": Column("o", ["o"], may_be_long=True),
            "expected_output_keys": Column("t.expected_output_keys", may_be_long=True),
            "data_dependencies": Column("t.data_dependencies", may_be_long=True),
            "payload_size": Column("b.size", ["b"]),
            "starts_at": Column("case when st.status = 1 then ts.due_at end", ["st", "ts"]),
            "deadline": Column("case when st.status < 10 then td.due_at end", ["st", "td"]),
        },
        joins={
            "st": ("join states st on st.task_no = t.task_no and st.session_no = t.session_no", ()),
            "s": _session("t"),
            "o": ("join options o on o.options_no = t.options_no", ()),
            "a": ("left join agents a on a.agent_no = st.agent_no", ["st"]),
            "ts": ("left join timers ts on ts.task_no = t.task_no and ts.kind = 1", ()),
            "td": ("left join timers td on td.task_no = t.task_no and td.kind = 2", ()),
            "b": (
                f"left join blobs b on b.blob_no = coalesce(t.payload_no, {_PAYLOAD_OF_RESULT})",
                (),
            ),
        },
        options="o",
        partial=[  # states_unclaimed, states_held, states_failed
            (frozenset({1}), ""),
            (frozenset({2, 3, 4}), "st.claim is not null"),
            (frozenset({11, 12, 13}), ""),
        ],
    ),
    Listed.ATTEMPTS: Source(
        # One task after the other: joined as a whole, the view would be read as a whole.
        table="tasks t cross join lateral (select * from attempts e where e.task_no = t.task_no offset 0) as e",
        key=[("t.task_no", "bigint"), ("e.retry", "integer")],
        columns={
            "task_number": Column("t.task_no"),
            "task_id": Column("t.id", by_bytes=True),
            "session_id": Column("s.id", ["s"], by_bytes=True, session_no="t.session_no"),
            "number": Column("e.retry"),
            "status": Column("e.status"),
            "claimed_at": Column("e.claimed_at"),
            "started_at": Column("e.started_at"),
            "ended_at": Column("e.ended_at"),
            "duration": Column(_duration("e.started_at", "e.ended_at")),
            "agent": Column("a.name", ["a"]),
            "worker": Column("nullif(e.worker, '')"),
            "error": Column(
                "case when e.status in (4, 13) then coalesce(nullif(e.detail, ''), 'cancelled')"
                " else nullif(e.detail, '') end",
                may_be_long=True,
            ),
        },
        joins={"s": _session("t"), "a": ("left join agents a on a.agent_no = e.agent_no", ())},
    ),
    Listed.RESULTS: Source(
        table="results r",
        key=[("r.session_no", "bigint"), ("r.key", "text")],
        columns={
            "key": Column("r.key", by_bytes=True),
            "session_id": Column("s.id", ["s"], by_bytes=True, session_no="r.session_no"),
            "status": Column("r.status"),
            "owner_task_id": Column("t.id", ["t"], by_bytes=True),
            "created_at": Column("r.created_at"),
            "ended_at": Column("r.ended_at"),
            "size": Column("coalesce(b.size, r.size)", ["b"]),
            "name": Column("nullif(r.name, '')"),
        },
        joins={
            "s": _session("r"),
            "t": ("left join tasks t on t.task_no = r.owner_no", ()),
            "b": ("left join blobs b on b.blob_no = r.blob_no", ()),
        },
        only="r.status <> 0",
    ),
    Listed.AGENTS: Source(
        table="agents a",
        key=[("a.agent_no", "bigint")],
        columns={
            "number": Column("a.agent_no"),
            # An agent's own id is a secret: whoever knows it may speak for the agent. This one is made of it.
            "id": Column("left(encode(sha256(uuid_send(a.agent_id)), 'hex'), 32)::uuid::text"),
            "name": Column("a.name"),
            "connected": Column(_CONNECTED),
            "slots": Column("a.slots"),
            "held": Column("h.held", ["h"]),
            "partitions": Column(f"({_SERVED})", may_be_long=True),
            "version": Column("a.version"),
            "connected_at": Column("a.connected_at"),
            "lease_until": Column("a.lease_until"),
        },
        joins={
            "h": (
                (
                    "cross join lateral (select count(*) as held from states st"
                    " where st.agent_no = a.agent_no and st.claim is not null) as h"
                ),
                (),
            )
        },
    ),
    Listed.PARTITIONS: Source(
        table=_PARTITIONS,
        key=[("p.name", "text")],
        columns={
            "name": Column("p.name", by_bytes=True),
            "agents": Column("p.agents"),
            "slots": Column("p.slots"),
            "busy": Column("b.busy", ["b"]),
            "claimable": Column("c.claimable", ["c"]),
        },
        joins={"b": (_BUSY, ()), "c": (_CLAIMABLE, ())},
    ),
    Listed.OPTIONS: Source(
        table="options o",
        key=[("o.options_no", "bigint")],
        columns={
            "number": Column("o.options_no"),
            "session_id": Column("s.id", ["s"], by_bytes=True, session_no="o.session_no"),
            "options": Column("o", may_be_long=True),
        },
        joins={"s": _session("o")},
        options="o",
    ),
}
