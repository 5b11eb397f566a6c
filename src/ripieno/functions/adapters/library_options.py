"""The options of tasks that a library submits, whose users know nothing of options."""

from __future__ import annotations

from datetime import timedelta

from ripieno.client import TaskOptions
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.terms.options import CallOptions, Retry

#: The libraries have no time limit of a call; this is as good as none.
NO_LIMIT = timedelta(days=30)


def options_of_library(cluster: Cluster) -> CallOptions:
    """Return the options: a function that raised is not called again, and may take long.

    A time limit that the cluster was joined with (``connect(max_duration=...)``) holds, unless it is the default.
    """
    session = cluster.session.task_options or TaskOptions()
    limit = NO_LIMIT if session.max_duration == TaskOptions().max_duration else None
    return CallOptions(retry=Retry(times=session.max_retries, on=()), max_duration=limit)
