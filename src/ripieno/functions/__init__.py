"""Functions as tasks: submit a function and its arguments, get a future of its value.

::

    import ripieno

    with ripieno.connect() as cluster:
        futures = cluster.map(simulate, range(10_000))
        print(sum(cluster.gather(futures)))

The package ``ripieno`` exports all of this. Three rooms::

    calling   the caller's side: Cluster, Future, what runs between them
    running   the worker's side: the handler, current(), sub-tasks
    terms     what both agree on: envelopes, pickles, references, options, errors

Rules that hold throughout:

* FUN-1  A value goes from task to task by the key of its result, and through the caller only where the caller asks.
* FUN-2  Submitting never waits for the cluster, except while 64 MiB are queued.
* FUN-3  A callback of the caller never runs on the client's event loop.
* FUN-4  What a function raised is what its future raises.
* FUN-5  A sub-task exists only if the task that made it was committed.
"""
