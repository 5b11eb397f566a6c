"""The environment of workers: the agent's own without its secrets."""

from collections.abc import Collection, Mapping

from ripieno.config import PASSED_VARIABLES, SLOT_VARIABLE, SPAWNED_VARIABLE, WORKER_ADDRESS_VARIABLE

#: Prefix of the variables that PostgreSQL's client library reads: passwords, hosts, files of keys.
_LIBPQ_PREFIX = "PG"
_OWN_PREFIX = "RIPIENO_"


def is_passed_on(name: str, named: Collection[str]) -> bool:
    """Whether workers get the agent's environment variable ``name``.

    Variables in ``named`` are always passed on. Kept back are this project's own settings (the URL of
    the database holds a password), except those meant for workers and clients, and the variables that
    PostgreSQL's client library reads. All others are taken to be meant for the workers.
    """
    if name in named:
        return True
    if name.startswith(_OWN_PREFIX):
        return name in PASSED_VARIABLES
    return not name.startswith(_LIBPQ_PREFIX)


def worker_environment(ours: Mapping[str, str], *, named: Collection[str], address: str, slot: int) -> dict[str, str]:
    """Build the environment of one worker.

    Args:
        ours: The agent's own environment.
        named: Names of variables that are always passed on.
        address: Where the worker is to serve.
        slot: Number of the worker's slot, from 0. A worker's replacement has the same number, and no two
            live workers share it.
    """
    passed = {name: value for name, value in ours.items() if is_passed_on(name, named)}
    return passed | {WORKER_ADDRESS_VARIABLE: address, SPAWNED_VARIABLE: "1", SLOT_VARIABLE: str(slot)}
