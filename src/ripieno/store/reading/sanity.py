"""The invariants of the tables, as queries that must find nothing (used by tests and by hand)."""

from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("sanity")

_CHECKS = {
    "INV-2 a final task owns an output that is not final": _SQL.final_task_owns_open_output,
    "INV-4 a held task has an unmet dependency": _SQL.held_task_has_unmet_dependency,
    "INV-11 unmet is not the number of open dependencies": _SQL.unmet_is_not_open_dependencies,
    "INV-15 a waiting task depends on an aborted result, and nobody is going to fail or cancel it": _SQL.waiting_task_is_left_behind,
    "INV-15 a claimable task depends on an aborted result": _SQL.claimable_task_depends_on_aborted_result,
    "a task failed for want of an input that was not aborted, or does not say whose end was the first cause": _SQL.failed_input_does_not_say_why,
    "INV-14 somebody waits for an open result that does not say so": _SQL.awaited_result_does_not_say_so,
    "INV-12 the counts of a session do not sum to its tasks": _SQL.counts_do_not_sum_to_tasks,
    "INV-12 the stored bytes of a session do not sum to its data": _SQL.stored_bytes_do_not_sum_to_data,
    "INV-13 a completed result without data, or data of another one": _SQL.completed_result_without_data,
    "INV-13 data that nothing refers to": _SQL.data_without_reference,
    "a linked object may still be collected as garbage": _SQL.linked_object_is_still_staged,
    "a key that is only named has an owner": _SQL.named_key_has_owner,
    "a task being cancelled owns an open output": _SQL.cancelling_task_owns_open_output,
    "the number of a retry is not that of the attempts before it": _SQL.retry_is_not_earlier_attempts,
    "a task without a state, or a state without a task": _SQL.task_without_state,
    "a cancelled session with a task that may still run": _SQL.cancelled_session_has_running_task,
    "INV-16 a task of a paused session may be claimed": _SQL.paused_session_has_claimable_task,
    "INV-16 an unfinished task is parked although its session is not paused": _SQL.parked_task_of_running_session,
    "INV-17 a purged session has an unfinished task or data": _SQL.purged_session_is_not_empty,
    "INV-18 a row of a session that is not there, and that nobody is deleting": _SQL.row_of_no_session,
    "INV-18 an attempt of a task that is not there": _SQL.attempt_of_no_task,
    "INV-18 a timer of a task that is not there": _SQL.timer_of_no_task,
    "INV-23 an agent holds a task that waits for its time": _SQL.held_task_waits_for_its_time,
    "INV-23 an unfinished task has a deadline that nobody keeps": _SQL.deadline_is_not_kept,
    "INV-19 the open results that no task owns are not those that are noted as such": _SQL.unowned_results_are_others,
    "an unfinished task has no payload, or two": _SQL.task_without_payload,
    "a result says what it had though it is not deleted, or does not though it is": _SQL.deleted_result_without_size,
}


async def broken_invariants(database: Database) -> list[str]:
    """Return every broken invariant with up to five of the rows that break it; empty if all hold."""
    broken = []
    async with database.connection() as connection, connection.raw.transaction():
        # Not in ``sql/``: settings, and statements that are composed with a limit.
        await connection.execute("set local enable_hashjoin = on; set local enable_seqscan = on")
        for name, query in _CHECKS.items():
            rows = await connection.fetch(f"{query} limit 5")
            if rows:
                broken.append(f"{name}: {', '.join(str(row[0]) for row in rows)}")
    return broken
