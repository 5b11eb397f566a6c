"""The worker SDK: write and serve handlers, the functions that run tasks.

A worker is one process with one handler, which runs one task at a time unless told otherwise::

    from ripieno.worker import Task, serve

    def handle(task: Task) -> bytes:
        return task.payload.upper()

    serve(handle)  # at RIPIENO_WORKER_ADDRESS, until SIGTERM

or, without the last line, ``ripieno worker my_module:handle``. What each worker needs once, before its first task,
a function marked with ``@startup`` does.

Inside, two threads::

    agent --gRPC--> lanes --receive--> Attempt --Inbox--> runner --Task--> handler
          <-------- lanes <--Outbox--- Attempt <--------- operations <-----'
          (I/O thread, one loop)                          (main thread)

The lanes are the two services of one address: ``Worker`` (a call per attempt, what every agent of
the protocol speaks) and, unless told otherwise, ``BatchWorker`` (many attempts to a message, what
our agent speaks). Both use the same conversation machine, which does no I/O.

Rules that hold throughout:

* WRK-1  A worker has one place, or N where its author says so (``serve(handler, concurrency=N)``). In each place
  one attempt runs at a time, and attempts begin in the order in which they became ready.
* WRK-2  An attempt either begins or is withdrawn, never both (``Attempt._fate``).
* WRK-3  An attempt ends exactly once: with Output, as failed, or as withdrawn.
* WRK-4  Data that arrives is on disk beyond 1 MiB; a handler that sends waits for the I/O beyond 2 MiB.
* WRK-5  A process that a handler forks is no worker: it has none of the worker's signals and sockets,
  and never returns into the worker's loop (``forks``).
* WRK-6  Importing this package needs grpcio and protobuf and nothing else.
"""

import os

# Handlers fork while other threads are inside gRPC: gRPC's own fork handlers would only log an error
# at each fork. Children must not use the worker's connections anyway.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from ripieno.domain.options import TaskOptions
from ripieno.domain.timers import TimerOptions
from ripieno.worker.author.task import AsyncTask, Task
from ripieno.worker.conversation.sub_tasks import SubTask
from ripieno.worker.running.handlers import load_handler
from ripieno.worker.running.preparation import shutdown, startup
from ripieno.worker.serving.serving import serve
from ripieno.worker.terms.errors import (
    AttemptOver,
    HandlerError,
    ResultUnavailable,
    ServeError,
    StartupError,
    SubTasksRefused,
    TaskCancelled,
    TaskError,
)

__all__ = [
    "AsyncTask",
    "AttemptOver",
    "HandlerError",
    "ResultUnavailable",
    "ServeError",
    "StartupError",
    "SubTask",
    "SubTasksRefused",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskOptions",
    "TimerOptions",
    "load_handler",
    "serve",
    "shutdown",
    "startup",
]
