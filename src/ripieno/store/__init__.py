"""The store: all state that must not be lost, in PostgreSQL, and the statements on it.

::

    sessions ---- options            what tasks may cost and how urgent they are
       |
     tasks ------ states             what a task is (never changes) | where it is in its life
       |            |--- earlier_attempts
       |            '--- timers        when it starts at the earliest | when it is ended at the latest
    results ---- dependencies        named data | who waits for it
       '--------- blobs              bytes: inline, or by name in the object store
     agents                          who holds which tasks, and until when
     deleted_sessions                ids that may not come back for a year
     session_counts                  tasks by status, as differences
     changes                         what each transaction did, for those who follow (``store.changelog``)

Each change is one statement or one short transaction at READ COMMITTED, and states what
it expects (``... and claim = $2 and status in (2, 3)``). No state is kept beside the tables.

Statements are in ``sql/``, one file for each concern. Only statements that are composed, settings of
sessions and the protocol of transactions are in the modules.

**The ladder of locks.** There is a *gate* for each session, an advisory
lock in memory only. A transaction that adds to a session or commits outcomes in it holds
its gate shared; one that cuts its graph (a cancellation, an abort that reaches other tasks) or
revives it (a retry) holds it exclusively, for a short step at a time (``store.database.turns``). So neither sees part
of another transaction's work. Transactions that share the gate take row locks in one order:

1. gates, by session number
2. states of the attempts being committed, by task number
3. new rows of results, by (session, key)
4. existing rows of results that are not final, by (session, key)
5. new rows of tasks, by id
6. states of dependents, and of tasks whose time has come, by task number

A transaction waits in phase 3 only for rows inserted by others, and in phase 4 only for
rows that existed before, held by others in phase 4 or later; within a phase all
transactions take locks in the same order: no cycle is possible. Timers are locked before phase 6 by whoever promotes
tasks whose time has come; it skips those that are locked, and nobody waits for them. Claims skip locked rows and do not wait. If
PostgreSQL refuses a crossing all the same, the transaction is run again.

**Plain and careful.** Most submissions and commits clash with nothing. Each is one call of a
function in the database (``migrations/0001_foundation.sql``), which takes locks in the same order, and raises
an error if something clashes; the call is undone then, and the same work is done step by
step, with a round trip for each phase and the decisions in Python. Both ways must give the same results, and
tests run both.

**Failures.** ``faults`` translates errors of the database and says whose fault they are;
``connections`` opens sessions, ``pool`` lends them, ``watchman`` ends those that wait for a
silent server, and ``database`` ensures that what was kept of one incarnation of the
database is not used with the next.

Invariants of the tables (``store.reading.sanity`` checks them all; tests call it):

* INV-10 ``claim`` is set exactly while an agent holds the task.
* INV-11 ``unmet`` of a SUBMITTED task is the number of its distinct dependencies that are
  not COMPLETED, or of which ``pending_promotions`` says that the task is yet to be promoted; one more while a timer
  says that the task does not start yet.
* INV-12 ``session_counts`` sums to the statuses that ``states`` holds.
* INV-14 An open result for which a task waits is marked as ``awaited``.
* INV-13 A COMPLETED result has a blob, an ABORTED or DELETED one has none.
* INV-19 ``unowned_results`` names exactly the CREATED results that no task owns.
* INV-15 A task that waits for an aborted result is never claimable, and is named in
  ``pending_cuts``, or its session in ``pending_cancellations``, until it has failed.
* INV-16 A waiting task is parked if its session is paused, and an unfinished one is not parked otherwise, but for
  what ``pending_sweeps`` says is under way.
* INV-17 A purged session has neither unfinished tasks nor data, likewise.
* INV-23 A task with a timer before which it does not start is held by no agent, and an unfinished task whose options
  say a deadline has a timer for it, unless its session is cancelled.
* INV-18 Each row belongs to a session that exists, or that ``pending_sweeps`` says is being deleted.
"""
