"""The wire: .proto files, generated stubs, and the mapping between messages and domain.

* ``protos/armonik_v2``: the ``Submitter`` and ``Worker`` services, exact to the number.
* ``protos/v1``: the project's own services (agent stream, batch worker, results).
* The modules beside them translate (options, statuses, requests, outcomes, error codes)
  and know the grammar of streamed submissions. No socket is opened here.
"""
