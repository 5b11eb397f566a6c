"""A laptop cluster: the processes of a real one, started together and kept running.

::

    ripieno up ──┬── postgres         (embedded; or none, with --database)
                 ├── ripieno control
                 └── ripieno agent ─── workers

* ``directory``: what lies where below the data directory, and who holds it.
* ``child``: one of our own processes, from its start to its end.
* ``keeper``: restarts what died.
* ``cluster``: which process starts when, and the order in which they stop.
* ``ports``: whether a port is free, said before anything starts.

Promises:

* UP-1  One ``up`` at a time holds a data directory; a second one changes nothing.
* UP-2  A process that dies is started again, on the same address, with growing pauses.
* UP-3  When ``up`` itself dies, however it dies, all of its processes end by themselves
  within seconds; the next ``up`` waits for that, and ends what does not end.
* UP-4  The stop goes from the work to the data: agent, control plane, PostgreSQL. Each
  drains before the next is told.
"""
