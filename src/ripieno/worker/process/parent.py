"""A worker that an agent spawned does not outlive the agent."""

import os
import threading

#: Number of an inherited descriptor: the read end of a pipe whose write end only the agent
#: holds. It reads as ended when the agent is gone, however it went.
PARENT_PIPE_VARIABLE = "RIPIENO_PARENT_PIPE"


def watch_parent() -> None:
    """End this process at once when the agent that spawned it is gone; nothing without one.

    Raises:
        ValueError: the variable does not hold a number.
    """
    # Taken out of the environment: processes that a handler starts are not the agent's.
    value = os.environ.pop(PARENT_PIPE_VARIABLE, "")
    if not value:
        return
    descriptor = int(value)
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait_and_exit, args=(descriptor,), name="ripieno-worker-parent", daemon=True).start()


def _wait_and_exit(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    # No clean-up: nothing that this process still does can count, and a handler may be stuck.
    os._exit(0)
