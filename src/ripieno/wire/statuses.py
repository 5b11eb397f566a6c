"""Tables between the domain's statuses and the protocol's."""

from collections.abc import Mapping
from types import MappingProxyType

from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.protos.armonik_v2 import result_status_pb2, session_status_pb2, task_status_pb2

TASK_TO_WIRE = MappingProxyType(
    {
        TaskStatus.SUBMITTED: task_status_pb2.TASK_STATUS_SUBMITTED,
        TaskStatus.DISPATCHED: task_status_pb2.TASK_STATUS_DISPATCHED,
        TaskStatus.PROCESSING: task_status_pb2.TASK_STATUS_PROCESSING,
        TaskStatus.CANCELLING: task_status_pb2.TASK_STATUS_CANCELING,
        TaskStatus.COMPLETED: task_status_pb2.TASK_STATUS_COMPLETED,
        TaskStatus.ERROR: task_status_pb2.TASK_STATUS_ERROR,
        TaskStatus.TIMEOUT: task_status_pb2.TASK_STATUS_TIMEOUT,
        TaskStatus.CANCELLED: task_status_pb2.TASK_STATUS_CANCELED,
    }
)
#: The protocol has four more task statuses; no task is ever in one of them.
TASK_FROM_WIRE: Mapping[int, TaskStatus] = MappingProxyType({wire: status for status, wire in TASK_TO_WIRE.items()})

RESULT_TO_WIRE = MappingProxyType(
    {
        ResultStatus.CREATED: result_status_pb2.RESULT_STATUS_CREATED,
        ResultStatus.COMPLETED: result_status_pb2.RESULT_STATUS_COMPLETED,
        ResultStatus.ABORTED: result_status_pb2.RESULT_STATUS_ABORTED,
        # The protocol has no word for it: there is no data, and never will be. The error of the result says why.
        ResultStatus.DELETED: result_status_pb2.RESULT_STATUS_ABORTED,
    }
)
RESULT_FROM_WIRE: Mapping[int, ResultStatus] = MappingProxyType(
    {wire: status for status, wire in RESULT_TO_WIRE.items() if status is not ResultStatus.DELETED}
)

SESSION_TO_WIRE = MappingProxyType(
    {
        SessionStatus.RUNNING: session_status_pb2.SESSION_STATUS_RUNNING,
        SessionStatus.PAUSED: session_status_pb2.SESSION_STATUS_RUNNING,
        SessionStatus.CANCELLED: session_status_pb2.SESSION_STATUS_CANCELED,
        SessionStatus.CLOSED: session_status_pb2.SESSION_STATUS_CANCELED,
        SessionStatus.PURGED: session_status_pb2.SESSION_STATUS_CANCELED,
    }
)
#: The protocol has two words for what may be said of a session: that it takes work, and that it does not.
SESSION_FROM_WIRE: Mapping[int, frozenset[SessionStatus]] = MappingProxyType(
    {
        wire: frozenset(status for status, other in SESSION_TO_WIRE.items() if other == wire)
        for wire in SESSION_TO_WIRE.values()
    }
)
