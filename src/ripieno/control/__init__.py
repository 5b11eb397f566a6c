"""The control plane: equal replicas, none of which holds state that must not be lost.

::

    submitter ----- Submitter: what clients call          watcher ---- who waits for what
    submissions --- tasks on their way to the store       notices ---- news to and from other replicas
    results ------- Results: finished results, pushed     dispatcher - claims for connected agents
    agents -------- Agent: the agents' streams            liveness --- leases; rescues attempts of lost agents
    batching ------ group commit                          upkeep ----- assignments, counts, garbage
    errors -------- every failure becomes one gRPC code   server ----- builds and runs all parts

The path of a task: ``submitter`` decodes and checks, ``batching`` gathers calls, the store
writes them; ``notices`` wakes the ``dispatcher``, which claims for agents that granted
credit; ``agents`` sends the assignments and gathers outcomes; the store commits them;
``notices`` tells the ``watcher``, which ends waits and pushes results.

Invariants:

* INV-20 No change is told to anyone before its transaction has committed.
* INV-21 Waiters register before they look, so that no change between the two is missed.
* INV-22 A call that waits costs no query of its own after its first look: calls that wait in one session share their
  queries. The exceptions are waits for tasks by id and status, and for cancellations to be confirmed
  (``Watcher.looks``).
"""
