"""``connect``: joins a cluster, or starts one for this program."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from ripieno.client import AlreadyExistsError, Client, Session
from ripieno.client.terms.definitions import DEFAULT_MAX_DURATION_S, DEFAULT_MAX_RETRIES
from ripieno.config import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from ripieno.contexts import default_place
from ripieno.domain.addresses import TcpAddress, parse_addresses
from ripieno.domain.errors import UnavailableError
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.private import PrivateCluster

#: How long to try whether something listens at the default address of this machine.
_LOOK_S = 1.0


def connect(
    address: str | None = None,
    *,
    session: str | None = None,
    slots: int | None = None,
    priority: int = 1,
    max_retries: int = DEFAULT_MAX_RETRIES,
    max_duration: float | timedelta = DEFAULT_MAX_DURATION_S,
    partition: str | None = None,
    **settings: Any,
) -> Cluster:
    """Join a cluster, or start one for this program, and return it, to be used in a ``with`` statement.

    Args:
        address: ``HOST:PORT`` or ``unix:/path``; None takes RIPIENO_ADDRESS, then the context in use (``ripieno
            context use``), then what runs at 127.0.0.1:5001. If nothing does, a private cluster is started, which ends with this program, and its data with it.
        session: A name for the session, which stays open and can be joined again; None for a session of this
            program alone.
        slots: How many tasks a private cluster runs at a time; None for one a core. With it, a private cluster is
            started even if another one runs.
        priority: Default priority of tasks, 1 to 99; larger is more urgent.
        max_retries: How many attempts of a task may follow its first one.
        max_duration: Time limit of one attempt, in seconds or as a timedelta.
        partition: Pool of workers that run the tasks; None is the default pool.
        settings: Further arguments of ``ripieno.client.Client``.

    Raises:
        ClusterError: nothing runs, and nothing can be started.
        UnavailableError: nothing answers at the address.
        InvalidRequestError: the address, the name or an option breaks a rule.
    """
    if address is not None and slots is not None:
        raise TypeError("slots says how large a private cluster is; a cluster with an address has its own")
    with ExitStack() as undone:
        private = None
        if address is None and (slots is not None or not _something_runs()):
            private = PrivateCluster(slots)
            undone.callback(private.close)
            address = private.address
        client = undone.enter_context(Client(address, **settings))
        defaults = {
            "priority": priority,
            "max_retries": max_retries,
            "max_duration": max_duration,
            "partition": partition,
        }
        try:
            opened = _session(client, session, defaults)
        except UnavailableError as error:
            end = "" if error.detail.endswith("?") else "."
            raise UnavailableError(f"{error.detail}{end} {_other_ways(address)}") from error
        undone.pop_all()
        return Cluster(client, opened, keeps_session=session is not None, private=private)


def _session(client: Client, name: str | None, options: dict[str, Any]) -> Session:
    """Create a session, or join the one of that name."""
    try:
        return client.session(id=name, **options)
    except AlreadyExistsError:
        assert name is not None
        return client.open_session(name)


def _other_ways(address: str | None) -> str:
    """Return what to do where the address is not that of a cluster which runs."""
    if address is not None:
        return "Give the address at which `ripieno up` runs, or none to have a cluster started for this program"
    if os.environ.get(ADDRESS_VARIABLE):
        return f"The address is from {ADDRESS_VARIABLE}: without it a cluster is started for this program"
    return (
        "connect(slots=...) starts a cluster for this program all the same, and connect('HOST:PORT') joins another one"
    )


def _something_runs() -> bool:
    """Return whether RIPIENO_ADDRESS or a context names a cluster, or something listens at the default address."""
    if default_place().source:
        return True
    (place,) = parse_addresses("address", DEFAULT_ADDRESS)
    assert isinstance(place, TcpAddress)
    try:
        with socket.create_connection((place.host, place.port), _LOOK_S):
            return True
    except OSError:
        return False
