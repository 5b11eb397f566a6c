"""The protocol, proven from outside: bare stubs against a running cluster.

Nothing in this package imports the product. A client and a set of workers made of stubs
(``bare_client``, ``bare_worker``), compiled from a transcription of the protocol of their
own (``stubs``), talk to a cluster that runs as real processes (``cluster``)::

    test ---- Submitter (bare_client) ----> cluster ---- Worker (bare_worker) ----> test

Both ends live in the test's own event loop, so one clock orders what they see. Every
message that a bare worker gets is checked against the order of part 3; a breach fails
the test during which it was seen. "Part n" means that part of ``protocol.md``.
"""
