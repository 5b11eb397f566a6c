"""The control plane: equal replicas that hold nothing that cannot be lost.

::

    submitter ----- Submitter: what clients call          watcher ---- who waits for what
    large_tasks --- its streamed submissions              notices ---- news to and from other replicas
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
* INV-22 A waiter costs no query of its own: waiters of one session share them.
"""
