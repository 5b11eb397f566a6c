"""Dask distributed: ``Client.map`` in batches and one ``gather``, impure tasks."""

import distributed  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.order import PAYLOAD, RESULT, Answer, Order, answer, rates, singles_ms

BATCH = 1_000


def no_op(payload: str) -> str:
    """Do nothing and return 100 characters."""
    return RESULT


def measure(order: Order) -> Answer:
    """A local cluster of single-threaded worker processes."""
    with (
        distributed.LocalCluster(
            n_workers=order.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(order.scratch),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def run(count: int) -> int:
            return len(client.gather(client.map(no_op, [PAYLOAD] * count, pure=False, batch_size=BATCH)))

        found = rates(order, run)
        alone = singles_ms(order, lambda: client.submit(no_op, PAYLOAD, pure=False).result())
    how = f"Client.map with batch_size {BATCH:,}, one gather, processes of one thread; nothing is kept"
    return Answer(distributed.__version__, how, found, alone)


if __name__ == "__main__":
    answer(measure)
