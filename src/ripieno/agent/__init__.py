"""The agent: runs beside the workers of a machine or a pod and gets them tasks. It has no database.

::

    control plane  <-- uplink --  outbox
                        |            ^
                   assignments       | outcomes, credit
                        v            |
                     dispatcher (no I/O) --> lanes --> workers
                        |                     |
                     inputs, spool       conversation (no I/O), exchange, uploads

* ``uplink`` dials out and keeps one stream; ``outbox`` keeps outcomes until they are settled.
* ``dispatcher`` decides how each attempt ends, ``placement`` which of the ``waiting`` ones goes to
  which worker, ``pace`` how much work to hold. None of them touches a socket.
  ``attempt`` and ``slots`` hold their data.
* ``batch_lane`` and ``process_lane`` are the two ways to a worker; ``conversation`` processes the
  replies of a worker for both (with ``gathering``, ``sub_tasks`` and ``large_submission``);
  ``exchange`` carries out its requests, ``uploads`` stores its large results, ``opening`` encodes
  the first messages of an attempt. A worker that runs several attempts at a time has several
  places, each with a slot of its own (``slots``, ``lanes``).
* ``inputs`` fetches data in batches, ``cache`` keeps small data, ``spool`` large data; ``link`` is
  the connection that they use.
* ``keeper`` keeps a slot served; ``supervisor`` and ``warden`` start and end processes; ``health``
  asks workers whether they serve.
* ``disk`` checks whether this machine takes files, ``threads`` is the pool that waits for the disk;
  ``faults`` says whose fault an error is.

Invariants (beside INV-5 of ``domain``):

* AGENT-1  Each assigned attempt ends exactly once: one outcome, or released, or lost.
* AGENT-2  An outcome is kept, and sent again after a reconnect, until it is settled or lost.
* AGENT-3  An attempt is reported as cancelled without having begun only if its worker never
  had it or gave it back.
* AGENT-4  Data passes through in bounded memory: inline data of attempts up to ``pace.STOCK_BYTES`` as
  estimated and ``dispatcher.HELD_BYTES`` as measured, beside one attempt for each worker; other data is in
  the cache, in files or under flow control.
* AGENT-5  No error of one attempt ends its lane, its worker or the agent (``faults``).
"""
