"""The agent: one beside the workers of a machine or a pod. It has no database.

::

    control plane  <-- uplink --  outbox
                        |            ^
                   assignments       | outcomes, credit
                        v            |
                     dispatcher (no I/O) --> lanes --> workers
                        |                     |
                     inputs, spool       conversation (no I/O), exchange, uploads

* ``uplink`` dials out and keeps one stream; ``outbox`` keeps outcomes until they are settled.
* ``dispatcher`` decides what becomes of each attempt, ``placement`` where it goes among those
  ``waiting``, ``pace`` how much work to hold. None of them touches a socket.
  ``attempt`` and ``slots`` are what they deal with.
* ``batch_lane`` and ``process_lane`` are the two ways to a worker; ``conversation`` reads
  what a worker says for both (with ``gathering``, ``sub_tasks`` and ``large_submission``);
  ``exchange`` carries out what it asks for, ``uploads`` what it produces, ``opening`` begins.
* ``inputs`` fetches data in batches, ``cache`` keeps small, ``spool`` large ones; ``link`` is
  the connection that they use.
* ``keeper`` keeps a slot served; ``supervisor`` and ``warden`` mind processes; ``health`` asks.
* ``disk`` knows whether this machine takes files, ``threads`` wait for it; ``faults`` says whose fault an error is.

Invariants (beside INV-5 of ``domain``):

* AGENT-1  Each assigned attempt ends exactly once: one outcome, or released, or lost.
* AGENT-2  An outcome is kept, and sent again after a reconnect, until it is settled or lost.
* AGENT-3  An attempt is reported as cancelled without having begun only if its worker never
  had it or gave it back.
* AGENT-4  Data passes through in bounded memory: inline data of attempts up to ``pace.STOCK_BYTES`` as
  they are reckoned and ``dispatcher.HELD_BYTES`` as they are, beside one for each worker; the rest in the
  cache, in files or under flow control.
* AGENT-5  No error of one attempt ends its lane, its worker or the agent (``faults``).
"""
