"""The wire protocol: .proto files, generated stubs, and the mapping between messages and domain.

* ``protos/armonik_v2``: the ``Submitter`` and ``Worker`` services, with exactly the original's names and numbers.
* ``protos/v1``: the project's own services (agent stream, batch worker, results).
* The modules beside them translate (options, statuses, requests, outcomes, error codes)
  and implement the grammar of streamed submissions. Only ``channels`` opens connections.
"""
