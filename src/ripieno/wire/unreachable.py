"""Why a server cannot be reached: gRPC's own words for it, and ours, for people.

gRPC tells the cause of a connection that could not be made in the details of the status UNAVAILABLE
alone, as text. What is not recognized here stays as it is.
"""

import re

#: What gRPC says -> what people read.
_CAUSES: tuple[tuple[str, str], ...] = (
    ("Connection refused", "nothing listens there"),
    ("Expected SETTINGS frame", "what listens there is no cluster: it does not speak HTTP/2"),
    ("before receiving SETTINGS frame", "what listens there does not answer as a cluster does"),
    ("Domain name not found", "there is no host of that name"),
    ("Name or service not known", "there is no host of that name"),
    ("lookup failed", "the host's name cannot be looked up"),
    ("error: No such file or directory", "there is no such socket"),
    ("Permission denied", "this user may not connect to it"),
    ("No route to host", "there is no way to that host"),
    ("Network is unreachable", "there is no way to that network"),
    ("onnection timed out", "the host does not answer"),
    ("attempt timed out", "the host does not answer"),
    ("Received http2 header with status", "what listens there is a web server, not a cluster"),
)
_CONNECTING = re.compile(
    r"failed to connect to (all|any) addresses|errors resolving|[Dd]NS resolution failed|http2 header"
)

#: Causes that no waiting mends, as long as no cluster has ever answered at the address.
_HOPELESS = ("Expected SETTINGS frame", "Received http2 header with status")


def cause_in_words(details: str) -> str:
    """Return why a server could not be reached, for people; ``details`` itself where it says something else."""
    if not _CONNECTING.search(details):
        return details
    return next((words for cause, words in _CAUSES if cause in details), details)


def is_no_cluster(details: str) -> bool:
    """Whether details of gRPC say that something else than a cluster listens at the address."""
    return any(cause in details for cause in _HOPELESS)
