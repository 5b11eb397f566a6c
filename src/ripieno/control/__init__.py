"""The control plane: equal replicas that hold nothing that cannot be lost.

::

    submitter ----- Submitter: what clients call          watcher ---- who waits for what
    submissions --- its tasks, on their way to the store  notices ---- news to and from other replicas
    results ------- Results: finished results, pushed     dispatcher - claims for connected agents
    agents -------- Agent: the agents' streams            liveness --- leases; takes back what lost agents held
    batching ------ group commit                          upkeep ----- assignments, counts, garbage
    errors -------- every failure becomes one gRPC code   server ----- puts it all together

A task's way: ``submitter`` decodes and checks, ``batching`` gathers calls, the store
writes them; ``notices`` wakes the ``dispatcher``, which claims for agents that granted
credit; ``agents`` sends the assignments and gathers outcomes; the store commits them;
``notices`` tells the ``watcher``, which ends waits and pushes results.

Invariants:

* INV-20 Nothing is told to anyone before the transaction it speaks of has committed.
* INV-21 Waiters register before they look, so that nothing falls between.
* INV-22 A call that waits costs no query of its own after its first look: those who wait in one session
  share them. Apart are waits for tasks by id and status, and for cancellations to be confirmed (``Watcher.looks``).
"""
