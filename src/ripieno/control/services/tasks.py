"""The Tasks service: lists, submission and explanations of tasks, what attempts print and say, how they failed."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import grpc.aio

from ripieno.control.results.failures import attempt_failure
from ripieno.control.results.inputs import Inputs
from ripieno.control.results.outputs import Outputs, Piece
from ripieno.control.results.progress import ProgressReports
from ripieno.control.services.pages import Pages
from ripieno.control.services.submitting import TaskSubmission
from ripieno.control.upkeep.retries import Retried, Retries
from ripieno.control.waiting.watcher import Watcher
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import InvalidRequestError, NotFoundError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.queries import check_filter
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Database
from ripieno.store.reading.explanations import explain_task
from ripieno.store.reading.lists import Lists
from ripieno.store.reading.lookup import find_tasks, task_failure
from ripieno.store.reading.progress import AttemptProgress
from ripieno.wire.explanations import explanation_to_wire
from ripieno.wire.options import changes_from_wire
from ripieno.wire.protos.v1 import query_pb2, tasks_pb2
from ripieno.wire.queries import filter_from_wire

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class Tasks(TaskSubmission):
    """Implements the Tasks service for clients.

    Args:
        submitting: Arguments of ``TaskSubmission``.
    """

    def __init__(
        self,
        database: Database,
        lists: Lists,
        watcher: Watcher,
        outputs: Outputs,
        progress: ProgressReports,
        retries: Retries,
        inputs: Inputs,
        *submitting: Any,
    ) -> None:
        super().__init__(*submitting)
        self._database = database
        self._lists = lists
        self._tasks = Pages(lists, Listed.TASKS, tasks_pb2.Task, tasks_pb2.TaskPage, "tasks")
        self._attempts = Pages(lists, Listed.ATTEMPTS, tasks_pb2.Attempt, tasks_pb2.AttemptPage, "attempts")
        self._options = Pages(lists, Listed.OPTIONS, tasks_pb2.Options, tasks_pb2.OptionsPage, "options")
        self._watcher = watcher
        self._outputs = outputs
        self._progress = progress
        self._retries = retries
        self._inputs = inputs

    async def List(self, request: query_pb2.Query, context: Context) -> tasks_pb2.TaskPage:
        """Return a page of the tasks."""
        return await self._tasks.list(request)

    async def Count(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many tasks match."""
        return await self._tasks.count(request)

    async def Get(self, request: tasks_pb2.TaskId, context: Context) -> tasks_pb2.Task:
        """Return a task, by its id or by the id of one of its attempts; its error is the whole story."""
        check_identifier("task_id", request.task_id)
        missing = f"task {request.task_id!r} does not exist"
        with self._database.one_incarnation():
            found = (await find_tasks(self._database, [request.task_id])).get(request.task_id)
            if found is None:
                raise NotFoundError(missing)
            message = await self._tasks.get(missing, id=found.id)
            status = TaskStatus[message.status]
            if status is TaskStatus.CANCELLING or (status.final and status is not TaskStatus.COMPLETED):
                failure = await task_failure(self._database, found.task_no)
                message.error = failure.errors[-1].detail if failure.errors else message.error
        return message

    async def Explain(self, request: tasks_pb2.TaskId, context: Context) -> tasks_pb2.Explanation:
        """Return why a task is not running, or why it failed."""
        check_identifier("task_id", request.task_id)
        with self._database.one_incarnation():
            return explanation_to_wire(await explain_task(self._database, self._lists, request.task_id))

    async def ListAttempts(self, request: query_pb2.Query, context: Context) -> tasks_pb2.AttemptPage:
        """Return a page of the attempts."""
        return await self._attempts.list(request)

    async def CountAttempts(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many attempts match."""
        return await self._attempts.count(request)

    async def ListOptions(self, request: query_pb2.Query, context: Context) -> tasks_pb2.OptionsPage:
        """Return a page of the sets of options."""
        return await self._options.list(request)

    async def CountOptions(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many sets of options match."""
        return await self._options.count(request)

    # The stubs know generators only; writing to the context is the other documented way.
    async def FollowOutput(self, request: tasks_pb2.FollowOutputRequest, context: Context) -> None:  # type: ignore[override]
        """Write what an attempt has printed, and go on until it has ended if the client follows it."""
        attempt = request.attempt if request.HasField("attempt") else None
        with self._database.one_incarnation() as unchanged, self._watcher.promised() as leaving:
            pieces = self._outputs.pieces(
                request.task_id, attempt, follow=request.follow, unchanged=unchanged, leaving=leaving
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    await context.write(_to_wire(piece))

    async def FollowProgress(self, request: tasks_pb2.FollowProgressRequest, context: Context) -> None:  # type: ignore[override]
        """Write how far tasks have come, and go on until the client goes away if it follows them."""
        with self._database.one_incarnation() as unchanged, self._watcher.promised() as leaving:
            if request.WhichOneof("whose") == "task_id":
                whose = await self._progress.of_task(request.task_id)
            else:
                whose = await self._progress.of_session(request.session_id)
            if not request.follow:
                await context.write(_report(await self._progress.now(whose)))
                return
            async with aclosing(self._progress.follow(whose, unchanged, leaving)) as reports:
                async for report in reports:
                    await context.write(_report(report))

    async def GetFailure(self, request: tasks_pb2.FailureRequest, context: Context) -> tasks_pb2.TaskFailure:
        """Return how an attempt has failed, with what its worker attached to the failure."""
        with self._database.one_incarnation():
            attempt = request.attempt if request.HasField("attempt") else None
            return await attempt_failure(self._database, request.task_id, attempt)

    # The stubs know generators only; writing to the context is the other documented way.
    async def GetInputs(self, request: tasks_pb2.GetInputsRequest, context: Context) -> None:  # type: ignore[override]
        """Write what a task is, and its payload."""
        with self._database.one_incarnation() as unchanged:
            async with aclosing(self._inputs.messages(request.task_id, request.offset)) as messages:
                async for message in messages:
                    unchanged()
                    await context.write(message)

    async def Retry(self, request: tasks_pb2.RetryRequest, context: Context) -> tasks_pb2.RetryReply:
        """Give failed tasks another attempt; reply when all that failed only because of them waits again."""
        if request.session_id:
            check_identifier("session_id", request.session_id)
        changes = changes_from_wire("options", request.options) if request.HasField("options") else None
        given = [
            name
            for name, is_given in (
                ("task_ids", bool(request.task_ids)),
                ("all_failed", request.all_failed),
                ("filter", request.HasField("filter")),
            )
            if is_given
        ]
        if not given:
            raise InvalidRequestError("task_ids", "is empty; name tasks, or set all_failed or filter")
        if len(given) > 1:
            raise InvalidRequestError(given[1], f"is set, and {given[0]} is, too; set one of them")
        if given != ["task_ids"] and not request.session_id:
            raise InvalidRequestError("session_id", "is not set; name the session whose failed tasks are meant")
        any_of = filter_from_wire(request.filter, "filter.")
        check_filter(Listed.TASKS, any_of, "filter.")
        with self._database.one_incarnation():
            if request.task_ids:
                return _reply(await self._retries.tasks(request.task_ids, request.session_id, changes))
            matching = any_of if request.HasField("filter") else None
            return _reply(await self._retries.failed(request.session_id, matching, changes))


def _to_wire(piece: Piece) -> tasks_pb2.OutputPiece:
    return tasks_pb2.OutputPiece(
        attempt=piece.attempt,
        stdout=piece.output.stdout,
        stderr=piece.output.stderr,
        stdout_left_out=piece.output.stdout_left_out,
        stderr_left_out=piece.output.stderr_left_out,
        over=piece.over,
    )


def _report(told: Sequence[AttemptProgress]) -> tasks_pb2.ProgressReport:
    return tasks_pb2.ProgressReport(
        progress=[
            tasks_pb2.ProgressReport.Progress(
                task_id=each.task_id, attempt=each.attempt, fraction=each.progress.fraction, text=each.progress.text
            )
            for each in told
        ]
    )


def _reply(retried: Retried) -> tasks_pb2.RetryReply:
    return tasks_pb2.RetryReply(
        retried=retried.retried,
        revived=retried.revived,
        not_retried=[tasks_pb2.NotRetried(task_id=each, reason=why) for each, why in retried.reasons.items()],
        not_retried_total=retried.not_retried,
    )
