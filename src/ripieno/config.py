"""Settings of the processes; the command line reads them once and hands them down.

Nothing below this module reads the environment. Sizes are in bytes, times in seconds.
"""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ripieno.domain.output import OUTPUT_LIMIT_BYTES

DEFAULT_ADDRESS = "127.0.0.1:5001"
ADDRESS_VARIABLE = "RIPIENO_ADDRESS"
#: Names one of the clusters in the user's file of contexts (``ripieno.contexts``).
CONTEXT_VARIABLE = "RIPIENO_CONTEXT"
WORKER_ADDRESS_VARIABLE = "RIPIENO_WORKER_ADDRESS"
#: Directories that a Python worker searches for modules after its own, as in PYTHONPATH.
WORKER_PATH_VARIABLE = "RIPIENO_WORKER_PATH"
#: Holds limits of a replica, ``name=value`` with blanks between them.
LIMITS_VARIABLE = "RIPIENO_LIMITS"
#: "0": no progress bars.
PROGRESS_VARIABLE = "RIPIENO_PROGRESS"
#: Set for workers that an agent starts: nobody waits for their ready line, so they print none.
SPAWNED_VARIABLE = "RIPIENO_SPAWNED"
#: Set for workers that an agent starts: a number from 0 that no two live workers of the agent share.
SLOT_VARIABLE = "RIPIENO_SLOT"
#: Those of this project's own variables that workers inherit, because a handler may itself be a client.
PASSED_VARIABLES = frozenset({ADDRESS_VARIABLE, CONTEXT_VARIABLE, WORKER_PATH_VARIABLE})


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what one caller may ask of a replica; a request beyond one is answered RESOURCE_EXHAUSTED.

    ``docs/limits.md`` says for each limit what happens at it. The limits are the same for every caller.

    Attributes:
        tasks_per_call: Tasks in one submission.
        keys_per_call: Expected outputs and data dependencies in one submission, together.
        bytes_per_call: Bytes of one request; of a streamed submission, those that are kept
            in memory until its end (names, and payloads up to ``inline_limit_bytes``).
        options_bytes: Bytes of one set of task options.
        ids_per_request: Ids or keys in one request that names tasks, sessions or results.
        ids_per_reply: Ids in one reply of ListTasks or ListSessions.
        keys_per_follow: Keys that one Follow stream waits for at a time.
        sub_tasks_per_attempt: Sub-tasks that one attempt creates.
        submission_memory_bytes: Bytes of submissions in memory in one replica.
        streams_per_client: Streams that one client has open with one replica.
        waiters_per_client: Calls of one client that wait in one replica.
        waited_per_client: Tasks and results that one client's calls and Follow streams wait for in one replica.
        unfinished_per_session: Tasks of one session that are not final.
        bytes_per_session: Bytes of payloads and results that one session has stored; results of
            tasks that run are taken all the same.
        options_per_session: Distinct sets of task options in one session.
    """

    tasks_per_call: int = 10_000
    keys_per_call: int = 100_000
    bytes_per_call: int = 16 * 1024 * 1024
    options_bytes: int = 256 * 1024
    ids_per_request: int = 100_000
    ids_per_reply: int = 100_000
    keys_per_follow: int = 100_000
    sub_tasks_per_attempt: int = 50_000
    submission_memory_bytes: int = 64 * 1024 * 1024
    streams_per_client: int = 1_000
    waiters_per_client: int = 10_000
    waited_per_client: int = 500_000
    unfinished_per_session: int = 20_000_000
    bytes_per_session: int = 1024**4
    options_per_session: int = 10_000


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Settings of one replica of the control plane.

    Attributes:
        database: PostgreSQL URL.
        listen: ``HOST:PORT``; port 0 takes a free one.
        objects: URL or directory of the object store; None takes a directory of the
            user's own, named after the cluster. All replicas of a cluster must agree.
        name: Name of this replica in logs.
        data_chunk_max_size: Longest chunk on the wire in bytes, told to clients and workers.
        inline_limit_bytes: Data up to this size travels and is stored inline.
        lease_s: How long an agent may be silent before its tasks are rescued.
        pool_size: Database connections of this replica.
        drain_s: How long calls under way may go on after the stop.
        list_timeout_s: How long a statement that answers a query to a list may take.
        change_log_s: How long changes of sessions can be read from the log of changes.
        change_log_bytes: Bytes of changes that the log keeps, about; the oldest go first.
        purge_after_s: How long after their end the data of sessions stays that are closed or cancelled; None for ever.
        delete_after_s: How long after their end such sessions, and purged ones, stay at all; None for ever.
        limits: What one caller may ask of this replica.
    """

    database: str
    listen: str = DEFAULT_ADDRESS
    objects: str | None = None
    name: str = field(default_factory=_default_name)
    data_chunk_max_size: int = 84_000
    inline_limit_bytes: int = 65_536
    lease_s: float = 10.0
    pool_size: int = 12
    drain_s: float = 10.0
    list_timeout_s: float = 2.0
    change_log_s: float = 86_400.0
    change_log_bytes: int = 1024 * 1024 * 1024
    purge_after_s: float | None = None
    delete_after_s: float | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one agent.

    Attributes:
        control: Addresses of replicas, ``HOST:PORT``; any of them will do.
        slots: Worker processes to spawn; ignored with ``attach``.
        worker: Command that starts a worker. ``{address}`` in it, and the variable
            RIPIENO_WORKER_ADDRESS, carry the address that the worker must serve. None takes
            this project's own Python worker for functions.
        attach: Addresses of workers that exist already (``unix:/path`` or
            ``HOST:PORT``); each is one slot.
        partitions: Partitions that the agent serves; empty means the default one alone.
        name: Name of this agent in logs and lists.
        cancel_grace_s: How long a cancelled or timed-out worker may go on before its
            process is replaced.
        cache_bytes: Memory for results that several tasks of a session read.
        drain_s: How long running attempts may go on after the stop.
        scratch: Directory for sockets and spilled data; None takes a temporary one.
        agent_id: Secret of 16 bytes by which the control plane knows this process; empty for random ones.
        predecessor: The ``agent_id`` of an agent that this one replaces and whose process has
            ended for certain: the tasks it held are rescued at once. Empty for none.
        worker_logs: Directory for what spawned workers print, a file for each slot that is
            put aside at 5 MiB; None means the agent's standard error.
        pass_environment: Names of variables that spawned workers get although variables of their
            kind (those of this project and of PostgreSQL's client library) are kept back.
        worker_open_files: Soft and hard limit of open files of spawned workers; None
            leaves them the agent's.
        output_bytes: How much of the end of what an attempt writes to standard output, and to
            standard error, is kept with it; 0 keeps nothing.
    """

    control: tuple[str, ...]
    slots: int = 1
    worker: str | None = None
    attach: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    name: str = field(default_factory=_default_name)
    cancel_grace_s: float = 2.0
    cache_bytes: int = 16 * 1024 * 1024
    drain_s: float = 30.0
    scratch: Path | None = None
    agent_id: bytes = b""
    predecessor: bytes = b""
    worker_logs: Path | None = None
    pass_environment: tuple[str, ...] = ()
    worker_open_files: tuple[int, int] | None = None
    output_bytes: int = OUTPUT_LIMIT_BYTES
