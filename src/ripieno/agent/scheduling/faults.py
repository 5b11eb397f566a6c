"""Classifies errors that an agent meets by whose fault they are, and confines each to its attempt.

=================================  ===================  =====================================
error                              whose fault          consequence for the attempt
=================================  ===================  =====================================
a gRPC status of ``REFUSALS``      the request's        fails, with the reason
any other status, a broken stream  the control plane's  goes on: tried again, growing pauses
``OSError`` in scratch             this machine's       given back, no attempt is used up
anything else                      ours, a bug          fails, with the reason; logged
=================================  ===================  =====================================

No error of one attempt ends its lane, its worker or the agent (AGENT-5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.background import Health
from ripieno.domain.errors import UnavailableError

if TYPE_CHECKING:
    from ripieno.agent.scheduling.dispatcher import Dispatcher

_log = logging.getLogger(__name__)
_told = Health()
_PART = "holding the data of attempts on this machine"

#: Status codes with which the control plane refuses a request that is itself at fault: a retry would not help.
REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

#: Seconds before an attempt that is not at fault is given back, since it runs again at once. A full disk stays
#: full for longer than a moment, and it takes a moment until another replica follows one that went away.
AGAIN_AFTER_S = 1.0


class MachineFaultError(Exception):
    """This machine cannot hold an attempt's data right now; the text says why."""


def is_refusal(error: BaseException) -> bool:
    """Whether ``error`` is a gRPC status of ``REFUSALS``: the request itself is at fault."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in REFUSALS


def end_attempt(dispatcher: Dispatcher, attempt: Attempt, error: Exception) -> None:
    """End one attempt for an error in its own work: give it back if this machine is at fault, else fail it."""
    if isinstance(error, MachineFaultError | OSError):
        dispatcher.condemn(attempt, Verdict.RELEASED, f"its data cannot be held here: {error}")
    else:
        _log.error("attempt %s failed by a bug of the agent", attempt.id, exc_info=error)
        dispatcher.condemn(attempt, Verdict.FAILED, f"the agent has failed it by a bug: {error!r}")
    dispatcher.pump()


async def contained(dispatcher: Dispatcher, attempt: Attempt, work: Awaitable[None]) -> None:
    """Await a piece of one attempt's work; an error ends that attempt alone.

    If this machine is at fault although it counts as fit, the attempt is given back after a pause of
    ``AGAIN_AFTER_S``, because it may be assigned here again at once.
    """
    try:
        await work
    except Exception as error:  # noqa: BLE001 - see the module: this is where one attempt's error stops
        if isinstance(error, MachineFaultError | OSError) and dispatcher.fit:
            _told.fault(_PART, UnavailableError(f"attempt {attempt.id!r}: {error}"))
            _told.drop(_PART)  # so that the next such fault is logged, but not before some time has passed
            await asyncio.sleep(AGAIN_AFTER_S)
        end_attempt(dispatcher, attempt, error)
