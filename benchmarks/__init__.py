"""Figures with their machine: what this project does, and its peers beside it.

Not tests: nothing here fails because a machine is slow. ``python -m benchmarks`` (``make
bench``) runs every subject in a process of its own, one after the other, then the peers,
prints one table, and keeps it in ``results/latest.json`` and in ``README.md``::

    __main__ ── catalogue ── one process each: subject ── subjects/no_op, subjects/latency...
       │                                                     └─ clusters, footprint, bare/, tasks
       ├── peers/ (in an environment of their own)
       └── report ── figures, machine

Rules:

* BENCH-1  Every load is bounded in number and in time; a subject that takes longer than its limit
  is ended, and its row says so.
* BENCH-2  Only loopback addresses and unix sockets; only processes that were started here are ended.
* BENCH-3  A figure carries how it was taken: what was durable, how many a call, how many clients and workers.
* BENCH-4  Ours and a peer's figure stand in one row only if task, payload, result and number of
  worker processes are the same.
"""
