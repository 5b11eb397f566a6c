"""Ray: remote functions, all submitted first and then fetched by one ``ray.get``.

That is what "Design patterns" of its documentation asks for (no ``ray.get`` in a loop).
"""

from typing import Any

import ray  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.order import PAYLOAD, RESULT, Answer, Order, answer, rates, singles_ms


def no_op(payload: str) -> str:
    """Do nothing and return 100 characters."""
    return RESULT


def measure(order: Order) -> Answer:
    """A local cluster with as many workers as cores are declared."""
    ray.init(
        num_cpus=order.workers,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(order.scratch),
    )
    try:
        remote: Any = ray.remote(no_op)
        found = rates(order, lambda count: len(ray.get([remote.remote(PAYLOAD) for _ in range(count)])))
        alone = singles_ms(order, lambda: ray.get(remote.remote(PAYLOAD)))
    finally:
        ray.shutdown()
    how = "remote functions, no batched submission in its API, one ray.get for all; nothing is kept"
    return Answer(ray.__version__, how, found, alone)


if __name__ == "__main__":
    answer(measure)
