"""Rows of every kind, with and without values, written without the code that reads them, and as lists should tell them."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from ripieno.domain.catalogue import Listed
from ripieno.domain.options import TaskOptions
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus

Row = Mapping[str, Any]
#: For each list its rows in the order of their keys.
Shelf = Mapping[Listed, list[Row]]

BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
#: What patterns, quoting or another order of characters would stumble over.
TEXTS = [
    "a",
    "A",
    "%",
    "_",
    "a%b",
    "a_b",
    "\\",
    "a\\",
    "'",
    '"',
    "é",
    "z",
    "Z",
    "\U0001f600",
    "a b",
    " ",
    "\n",
    "ab",
    "abc",
    "run-1",
]
SESSIONS, OPTIONS, TASKS, AGENTS = 5, 9, 70, 6


def _texts(chance: random.Random, prefix: str) -> str:
    return prefix + "".join(chance.choices(TEXTS, k=chance.randrange(3)))


def _maybe(chance: random.Random, value: Any, part: float = 0.6) -> Any:
    return value if chance.random() < part else None


class _Stock:
    """What was written so far, and the chances of the rest."""

    def __init__(self, connection: asyncpg.Connection, seed: int) -> None:
        self.connection = connection
        self.chance = random.Random(seed)
        self.shelf: dict[Listed, list[Row]] = {listed: [] for listed in Listed}
        self.options: dict[int, tuple[int, TaskOptions]] = {}
        self.sessions = {number: f"{number}{_texts(self.chance, 's')}" for number in range(1, SESSIONS + 1)}
        self.agents = {number: _texts(self.chance, "agent ") for number in range(1, AGENTS + 1)}
        self.held = dict.fromkeys(self.agents, 0)

    def when(self) -> datetime:
        return BEGAN + timedelta(microseconds=self.chance.choice([0, 0, 1, 5, 10**6, self.chance.randrange(10**10)]))

    async def insert(self, table: str, **values: Any) -> None:
        names, places = ", ".join(values), ", ".join(f"${place + 1}" for place in range(len(values)))
        over = " overriding system value" if table in ("sessions", "options", "agents") else ""
        await self.connection.execute(f"insert into {table} ({names}){over} values ({places})", *values.values())


async def stocked(connection: asyncpg.Connection, seed: int = 1) -> Shelf:
    """Write the rows into an empty database."""
    stock = _Stock(connection, seed)
    chance, insert, when, shelf = stock.chance, stock.insert, stock.when, stock.shelf
    options, sessions = stock.options, stock.sessions
    for number in range(1, OPTIONS + 1):
        free = {key: _texts(chance, "") for key in ("a", "priority", "%", "x.y") if chance.random() < 0.5}
        free |= {"partition": chance.choice(["p1", "p2", "Z"])} if chance.random() < 0.5 else {}
        of = TaskOptions(
            chance.choice([1, 10**6, 10**7, 3 * 10**18]), chance.randrange(4), chance.choice([1, 50, 99]), free
        )
        session_no = 1 + number % SESSIONS
        options[number] = session_no, of
        await insert(
            "options", options_no=number, session_no=session_no, digest=b"%d" % number, max_duration_us=of.max_duration_us,
            max_retries=of.max_retries, priority=of.priority, partition=of.partition, options=json.dumps(free),
        )  # fmt: skip
    for number, session_id in sessions.items():
        default = next(no for no, (of, _) in options.items() if of == number)
        status = chance.choice([status for status in SessionStatus if status is not SessionStatus.DELETED])
        takes, flags = status in (SessionStatus.RUNNING, SessionStatus.PAUSED), chance.choices([True, False], k=2)
        cancelled_at, closed_at, purged_at = (_maybe(chance, when()) for _ in range(3))
        await insert(
            "sessions", session_no=number, id=session_id, status=int(status), default_options_no=default, created_at=BEGAN,
            cancelled_at=cancelled_at, closed_at=closed_at, purged_at=purged_at,
            client_submission=flags[0], worker_submission=flags[1],
        )  # fmt: skip
        shelf[Listed.SESSIONS].append(
            {
                "number": number, "id": session_id, "status": status, "client_submission": takes and flags[0],
                "worker_submission": takes and flags[1], "created_at": BEGAN, "cancelled_at": cancelled_at,
                "closed_at": closed_at, "purged_at": purged_at, "default_options": options[default][1],
            }
        )  # fmt: skip
    shelf[Listed.OPTIONS] += [
        {"number": number, "session_id": sessions[session_no], "options": of}
        for number, (session_no, of) in options.items()
    ]
    for task_no in range(1, TASKS + 1):
        await _task(stock, task_no)
    await _agents(stock)
    await connection.execute(
        "insert into session_counts select session_no, status, count(*) from states group by session_no, status"
    )
    for listed, key in ((Listed.RESULTS, ("session_no", "key")), (Listed.PARTITIONS, ("name",))):
        shelf[listed].sort(key=lambda row, key=key: [row[name] for name in key])  # type: ignore[misc]
    return shelf


async def _task(stock: _Stock, task_no: int) -> None:
    chance, insert, shelf, when = stock.chance, stock.insert, stock.shelf, stock.when
    sessions, options, agents, held = stock.sessions, stock.options, stock.agents, stock.held
    options_no = chance.choice(list(options))
    session_no, of = options[options_no]
    status = chance.choice(list(TaskStatus))
    owned = status in (TaskStatus.DISPATCHED, TaskStatus.PROCESSING, TaskStatus.CANCELLING)
    agent = chance.choice([*agents, 99]) if owned else _maybe(chance, chance.choice([*agents, 99]))
    claimed_at = when() if owned else _maybe(chance, when())
    started_at, ended_at, submitted_at = _maybe(chance, when()), _maybe(chance, when()), when()
    detail, worker = (chance.choice([None, "", _texts(chance, "it broke ")]) for _ in range(2))
    outputs = [f"key {task_no}.{place}{chance.choice(TEXTS)}" for place in range(chance.randrange(4))]
    needs = [f"key {chance.randrange(1, TASKS)}.0" for _ in range(chance.randrange(3))]
    failed_input = 1 if status is TaskStatus.ERROR and needs and chance.random() < 0.5 else None
    retry, unmet, size = chance.randrange(3), chance.randrange(3), _maybe(chance, chance.randrange(5), 0.8)
    task_id, session_id = f"{_texts(chance, '')}-{task_no}", sessions[session_no]
    starts_at, deadline = (_maybe(chance, when(), 0.2) for _ in range(2))
    for kind, due_at in ((1, starts_at), (2, deadline)):
        if due_at is not None:
            await insert("timers", task_no=task_no, kind=kind, session_no=session_no, due_at=due_at)
    waits = status is TaskStatus.SUBMITTED and starts_at is not None
    if size is not None:
        await insert("blobs", blob_no=task_no, size=size, data=b"x" * size)
    await insert(
        "tasks", task_no=task_no, session_no=session_no, options_no=options_no, payload_no=task_no, id=task_id,
        submitted_at=submitted_at, expected_output_keys=outputs, data_dependencies=needs,
    )  # fmt: skip
    await insert(
        "states", task_no=task_no, session_no=session_no, claim=task_no if owned else None, agent_no=agent,
        claimed_at=claimed_at, started_at=started_at, ended_at=ended_at, unmet=unmet + waits, retry=retry, max_retries=3,
        failed_input=failed_input, status=int(status), priority=of.priority, partition=of.partition, worker=worker, detail=detail,
    )  # fmt: skip
    if owned and agent in held:
        held[agent] += 1
    own = detail or None
    stopped = (own or "cancelled") if status in (TaskStatus.CANCELLED, TaskStatus.CANCELLING) else own
    latest = {
        "session_id": session_id, "status": status, "claimed_at": claimed_at, "started_at": started_at, "ended_at": ended_at,
        "duration": None if started_at is None or ended_at is None else ended_at - started_at,
        "agent": agents.get(agent), "worker": worker or None, "error": stopped,
    }  # fmt: skip
    shelf[Listed.TASKS].append(
        latest
        | {
            "number": task_no, "id": task_id, "attempt": retry, "unmet_dependencies": unmet, "submitted_at": submitted_at, "options": of,
            "expected_output_keys": outputs, "data_dependencies": needs, "payload_size": size,
            "starts_at": starts_at if waits else None, "deadline": None if status.final else deadline,
        }
        | ({} if failed_input is None else {"error": f"input '{needs[0]}' was aborted"})
    )  # fmt: skip
    for number in range(retry):
        failed, ended_at = chance.choice([TaskStatus.ERROR, TaskStatus.TIMEOUT]), when()
        await insert(
            "earlier_attempts", task_no=task_no, retry=number, status=int(failed), agent_no=agent, claimed_at=BEGAN,
            started_at=None, ended_at=ended_at, worker="w", detail="before",
        )  # fmt: skip
        shelf[Listed.ATTEMPTS].append(
            {
                "task_number": task_no, "task_id": task_id, "session_id": session_id, "number": number, "status": failed, "claimed_at": BEGAN, "started_at": None,
                "ended_at": ended_at, "duration": None, "agent": agents.get(agent), "worker": "w", "error": "before",
            }
        )  # fmt: skip
    if claimed_at is not None:
        shelf[Listed.ATTEMPTS].append(latest | {"task_number": task_no, "task_id": task_id, "number": retry})
    for key in outputs:
        made, blob_no, owner = chance.choice(list(ResultStatus)), None, _maybe(chance, task_no, 0.9)
        size, created_at, ended_at = None, when(), _maybe(chance, when())
        if made is ResultStatus.COMPLETED:
            size, blob_no = chance.randrange(9), 2**62 + len(shelf[Listed.RESULTS]) + 1000 * task_no
            await insert("blobs", blob_no=blob_no, size=size, data=b"y" * size)
        if made is ResultStatus.DELETED:
            size = 12345
        name = chance.choice([None, "", _texts(chance, "name ")])
        await insert(
            "results", session_no=session_no, owner_no=owner, blob_no=blob_no, created_at=created_at, ended_at=ended_at,
            status=int(made), key=key, name=name, size=size if made is ResultStatus.DELETED else None,
        )  # fmt: skip
        if made is not ResultStatus.NAMED:
            shelf[Listed.RESULTS].append(
                {
                    "session_no": session_no, "key": key, "session_id": session_id, "status": made,
                    "owner_task_id": None if owner is None else task_id, "created_at": created_at, "ended_at": ended_at, "size": size, "name": name or None,
                }
            )  # fmt: skip


async def _agents(stock: _Stock) -> None:
    chance, insert, shelf, when = stock.chance, stock.insert, stock.shelf, stock.when
    options, agents, held = stock.options, stock.agents, stock.held
    served: dict[str, list[tuple[int, int]]] = {of.partition: [] for _, of in options.values()}
    claimable = Counter(
        task["options"].partition
        for task in shelf[Listed.TASKS]
        if task["status"] is TaskStatus.SUBMITTED and not (task["unmet_dependencies"] or task["starts_at"])
    )
    for number, name in agents.items():
        agent_id = UUID(int=chance.getrandbits(128))
        connected, slots = chance.random() < 0.6, chance.randrange(1, 4)
        lease_until = datetime(2999 if connected else 2020, 1, 1, tzinfo=UTC)
        partitions, version, connected_at = (
            chance.choice([[], ["p1"], ["p2", "only here"]]),
            chance.choice(TEXTS),
            when(),
        )
        await insert(
            "agents", agent_no=number, agent_id=agent_id, name=name, slots=slots, partitions=partitions,
            version=version, connected_at=connected_at, lease_until=lease_until,
        )  # fmt: skip
        shown = str(UUID(bytes=hashlib.sha256(agent_id.bytes).digest()[:16]))
        shelf[Listed.AGENTS].append(
            {
                "number": number, "id": shown, "name": name, "connected": connected, "slots": slots, "held": held[number],
                "partitions": partitions or [""], "version": version, "connected_at": connected_at, "lease_until": lease_until,
            }
        )  # fmt: skip
        if connected:
            for partition in partitions or [""]:
                served.setdefault(partition, []).append((slots, min(held[number], slots)))
    shelf[Listed.PARTITIONS] += [
        {
            "name": name,
            "agents": len(of),
            "slots": sum(slots for slots, _ in of),
            "busy": sum(busy for _, busy in of),
            "claimable": claimable[name],
        }
        for name, of in served.items()
    ]
