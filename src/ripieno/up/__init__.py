"""A cluster on one machine (``ripieno up``): the processes of a real one, started together and kept running.

::

    ripieno up ──┬── postgres         (embedded; or none, with --database)
                 ├── ripieno control
                 └── ripieno agent ─── workers

* ``directory``: the files below the data directory, and the lock of the process that uses it.
* ``child``: one of our own processes, from its start to its end.
* ``keeper``: restarts processes that died.
* ``cluster``: which process starts when, and the order in which they stop.
* ``ports``: checks that a port is free before anything starts.

Promises:

* UP-1  One ``up`` at a time holds a data directory; a second one changes nothing.
* UP-2  A process that dies is started again, on the same address, with growing pauses.
* UP-3  When ``up`` itself dies, however it dies, all of its processes end by themselves
  within seconds; the next ``up`` waits for that, and kills those that do not end.
* UP-4  The stop goes from the work to the data: agent, control plane, PostgreSQL. Each
  drains before the next is told to stop.
"""
