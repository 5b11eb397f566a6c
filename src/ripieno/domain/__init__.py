"""The domain model: sessions, tasks, attempts and results, and the rules they obey.

This package uses the standard library only and knows nothing of gRPC, SQL or sockets, so every rule
can be read and tested alone. The layers above translate: ``wire`` to and from messages,
``store`` to and from rows.

Invariants (assertions and tests cite these names):

* INV-1  A final status is never left (COMPLETED, ERROR, TIMEOUT, CANCELLED of a task;
  COMPLETED, ABORTED of a result), but by a retry that somebody asks for: a task in ERROR or TIMEOUT becomes
  SUBMITTED again, and its ABORTED results CREATED; so do those that failed only because of it.
* INV-2  Once a task is final, each of its expected outputs that it still owns is final.
* INV-3  The bytes of a COMPLETED result never change.
* INV-4  A task runs only if all its data dependencies are COMPLETED.
* INV-5  A write caused by an agent names the task and the claim; if the claim no longer
  owns the task, the write changes nothing.
"""
