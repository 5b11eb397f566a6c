"""What workers get of the agent's environment: everything but its secrets."""

from collections.abc import Collection, Mapping

from ripieno.config import PASSED_VARIABLES, SLOT_VARIABLE, SPAWNED_VARIABLE, WORKER_ADDRESS_VARIABLE

#: Read by PostgreSQL's client library: passwords, hosts, files of keys.
_LIBPQ_PREFIX = "PG"
_OWN_PREFIX = "RIPIENO_"


def is_passed_on(name: str, named: Collection[str]) -> bool:
    """Whether workers get a variable of the agent's.

    Kept back are this project's own settings (the URL of the database holds a password) but for
    those meant for workers and clients, and what PostgreSQL's client library reads. Everything
    else belongs to whoever started the agent for the workers. What is ``named`` is always passed on.
    """
    if name in named:
        return True
    if name.startswith(_OWN_PREFIX):
        return name in PASSED_VARIABLES
    return not name.startswith(_LIBPQ_PREFIX)


def worker_environment(ours: Mapping[str, str], *, named: Collection[str], address: str, slot: int) -> dict[str, str]:
    """The environment of one worker.

    Args:
        ours: The agent's own.
        named: Variables that are passed on whatever they hold.
        address: Where the worker is to serve.
        slot: Its number, from 0: the same for those that replace it, and no two live ones share it.
    """
    passed = {name: value for name, value in ours.items() if is_passed_on(name, named)}
    return passed | {WORKER_ADDRESS_VARIABLE: address, SPAWNED_VARIABLE: "1", SLOT_VARIABLE: str(slot)}
