"""The one truth: everything that must not be lost, in PostgreSQL, and the statements on it.

::

    sessions ---- options            what tasks may cost and how urgent they are
       |
     tasks ------ states             what a task is (never changes) | where it is in its life
       |            '--- earlier_attempts
    results ---- dependencies        named data | who waits for it
       '--------- blobs              bytes: inline, or by name in the object store
     agents                          who holds which tasks, and until when
     session_counts                  tasks by status, as differences

Each change is one statement or one short transaction at READ COMMITTED, and it says what
it expects (``... and claim = $2 and status in (2, 3)``). Nothing is kept beside the tables.

**How transactions cross without harm.** There is a *gate* for each session, an advisory
lock that lives in memory only. Whoever adds to a session or commits outcomes in it holds
its gate shared; whoever cuts its graph (a cancellation, an abort that reaches other tasks)
holds it exclusively, for a short step at a time (``store.database.turns``). A cut therefore sees no half of anybody's work. Those who share the
gate take row locks in one order:

1. gates, by session number
2. states of the attempts being committed, by task number
3. new rows of results, by (session, key)
4. existing rows of results that are not final, by (session, key)
5. new rows of tasks, by id
6. states of dependents, by task number

A transaction waits in phase 3 only for rows inserted by others, and in phase 4 only for
rows that existed before, held by others in phase 4 or later; within a phase everyone goes
up the same ladder: no cycle. Claiming skips locked rows and waits for nobody. Should
PostgreSQL refuse a crossing all the same, the transaction is run again.

**Plain and careful.** Most submissions and commits clash with nothing. They are one call of a
function in the database (``migrations/0001_foundation.sql``), which climbs the same ladder, and raises
as soon as something is not plain; what it did is undone then, and the same work is done step by
step, with a round trip for each phase and the decisions in Python. The two must agree, and
tests run both.

**What goes wrong.** ``faults`` is the one table of what the database says and whose fault it is;
``connections`` opens sessions, ``pool`` hands them out, ``watchman`` ends those that wait for a
server gone silent, and ``database`` sees to it that what was kept of one incarnation of the
database is not used with the next.

Invariants of the tables (``store.reading.sanity`` checks them all; tests call it):

* INV-10 ``claim`` is set exactly while an agent holds the task.
* INV-11 ``unmet`` of a SUBMITTED task is the number of its distinct dependencies that are
  not COMPLETED, or of which ``pending_promotions`` says that the task is yet to be promoted.
* INV-12 ``session_counts`` sums to the statuses that ``states`` holds.
* INV-14 An open result for which somebody waits says so (``awaited``).
* INV-13 A COMPLETED result has a blob, an ABORTED one has none.
* INV-15 A task that waits for an aborted result is never claimable, and is named in
  ``pending_cuts``, or its session in ``pending_cancellations``, until it has failed.
"""
