"""The module that Dramatiq's workers load."""

from typing import Any

import dramatiq  # type: ignore[import-not-found, import-untyped, unused-ignore]
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found, import-untyped, unused-ignore]
from dramatiq.results import Results  # type: ignore[import-not-found, import-untyped, unused-ignore]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.broker import url
from benchmarks.peers.order import RESULT

_broker = RedisBroker(url=url())
_broker.add_middleware(Results(backend=RedisBackend(url=url())))
dramatiq.set_broker(_broker)


def no_op(payload: str) -> str:
    """Do nothing and return 100 characters."""
    return RESULT


actor: Any = dramatiq.actor(no_op, store_results=True)
