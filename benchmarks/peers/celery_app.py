"""The application that Celery's workers load."""

from typing import Any

from celery import Celery  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.broker import url
from benchmarks.peers.order import RESULT

#: "If you have many tasks with a short duration you want the multiplier value to be larger",
#: says "Optimizing", and names 128.
PREFETCH = 128

app = Celery("peer", broker=url(), backend=url())
app.conf.update(
    worker_prefetch_multiplier=PREFETCH, broker_connection_retry_on_startup=True, task_send_sent_event=False
)


def no_op(payload: str) -> str:
    """Do nothing and return 100 characters."""
    return RESULT


task: Any = app.task(no_op, name="no_op")
