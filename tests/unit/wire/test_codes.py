"""Every error has its code, and every status its spelling."""

import inspect

import grpc
import pytest

from ripieno.domain import errors
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.codes import CODES, code_of
from ripieno.wire.statuses import RESULT_TO_WIRE, SESSION_TO_WIRE, TASK_TO_WIRE

FAMILIES = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.RipienoError) and error.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", FAMILIES)
def test_every_error_is_mapped(error: type[errors.RipienoError]) -> None:
    assert error in CODES
    assert CODES[error] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)


def test_what_is_safe_to_retry_is_unavailable_or_has_no_room_at_present_and_nothing_else() -> None:
    unavailable = {error for error, code in CODES.items() if code is grpc.StatusCode.UNAVAILABLE}
    assert unavailable | {errors.OverloadedError} == {error for error in FAMILIES if error.retry_is_safe}


def test_an_error_made_elsewhere_has_the_code_of_its_family() -> None:
    class Special(errors.SessionCancelledError):
        pass

    assert code_of(Special("s")) is grpc.StatusCode.FAILED_PRECONDITION


def test_every_status_that_clients_see_has_a_spelling() -> None:
    assert set(TASK_TO_WIRE) == set(TaskStatus)
    assert set(RESULT_TO_WIRE) == set(ResultStatus) - {ResultStatus.NAMED}
    assert set(SESSION_TO_WIRE) == set(SessionStatus) - {SessionStatus.DELETED}
