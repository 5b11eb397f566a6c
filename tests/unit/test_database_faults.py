"""The table: what the database says, and whose fault that is."""

import asyncio

import asyncpg
import pytest

from ripieno.domain.errors import (
    InvalidRequestError,
    InvariantError,
    OverloadedError,
    RipienoError,
    UnavailableError,
)
from ripieno.store.database.faults import (
    TABLE,
    ConnectionLostError,
    CrossedError,
    NoRoomForConnectionError,
    NotWritableError,
    RefusedError,
    StatementCancelledError,
    UnstorableError,
    translated,
)


def said(state: str, message: str = "no") -> RipienoError:
    """What an error of the server with this SQLSTATE becomes."""
    error = asyncpg.PostgresError.new({"C": state, "M": message})
    means = translated(error)
    assert means is not None
    return means


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ConnectionLostError),
        ("57P01", ConnectionLostError),  # shutting down
        ("57P03", ConnectionLostError),  # starting up
        ("57P05", ConnectionLostError),  # idle for too long
        ("25P03", ConnectionLostError),  # idle in a transaction for too long
        ("25P04", ConnectionLostError),
        ("53100", OverloadedError),
        ("53200", UnavailableError),
        ("53300", NoRoomForConnectionError),
        ("57014", StatementCancelledError),
        ("25006", NotWritableError),
        ("40001", CrossedError),
        ("40P01", CrossedError),
        ("55P03", UnavailableError),
        ("58030", UnavailableError),
        ("XX000", UnavailableError),
        ("P0001", UnavailableError),
        ("ZZ999", UnavailableError),
        ("28P01", RefusedError),
        ("3D000", RefusedError),
        ("42501", RefusedError),
        ("42P01", UnavailableError),
        ("22P05", UnstorableError),
        ("22001", UnstorableError),
        ("23503", UnstorableError),
        ("54000", UnstorableError),
        ("42601", InvariantError),
    ],
)
def test_each_class_has_its_meaning(state: str, kind: type[RipienoError]) -> None:
    assert type(said(state)) is kind


@pytest.mark.parametrize("kind", [ConnectionLostError, CrossedError, NoRoomForConnectionError, NotWritableError])
def test_what_is_ours_is_safe_to_try_again(kind: type[UnavailableError]) -> None:
    assert kind("").retry_is_safe


@pytest.mark.parametrize("state", sorted(TABLE))
def test_what_is_told_has_what_the_server_said(state: str) -> None:
    assert (
        "the words of the server" in said(state if len(state) == 5 else f"{state}ZZZ", "the words of the server").detail
    )


def test_a_full_disk_is_named_however_the_server_says_it() -> None:
    assert isinstance(said("58030", "could not write to file: No space left on device"), OverloadedError)
    assert "disk" in said("53100").detail


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InternalClientError("got result for unknown protocol state"),
    ],
)
def test_a_connection_that_breaks_is_ours(error: Exception) -> None:
    assert isinstance(translated(error), ConnectionLostError)


def test_a_wrong_url_is_the_callers() -> None:
    assert isinstance(translated(asyncpg.ClientConfigurationError("no such option")), InvalidRequestError)


def test_what_is_no_failure_of_the_database_is_left_alone() -> None:
    for error in (ValueError("x"), UnavailableError("x"), asyncio.CancelledError()):
        assert translated(error) is None
