"""A scheduler for Dask: ``dask.compute(x, scheduler=ripieno.dask.get)``.

::

    import dask
    import ripieno.dask

    with ripieno.connect() as cluster, dask.config.set(scheduler=ripieno.dask.get):
        total = dask.array.random.random((10_000, 10_000)).sum().compute()
"""

try:
    import dask._task_spec  # noqa: F401 - the form of graphs that is needed
except ImportError as error:
    raise ImportError("ripieno.dask needs Dask of December 2024 or newer: pip install 'ripieno[dask]'") from error

from ripieno.functions.adapters.dask_graph import get

__all__ = ["get"]
