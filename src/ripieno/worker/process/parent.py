"""The end of a worker whose agent is gone: a worker that an agent spawned does not outlive it."""

import os
import threading

#: Number of an inherited descriptor: the read end of a pipe whose write end only the agent
#: holds. It reads as ended when the agent is gone, however it went.
PARENT_PIPE_VARIABLE = "RIPIENO_PARENT_PIPE"


def watch_parent() -> None:
    """End this process at once when the agent that spawned it is gone. No-op if no agent spawned it.

    Raises:
        ValueError: the variable does not hold a number.
    """
    # The variable is removed, so that processes that a handler starts do not take the agent for their parent.
    value = os.environ.pop(PARENT_PIPE_VARIABLE, "")
    if not value:
        return
    descriptor = int(value)
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait_and_exit, args=(descriptor,), name="ripieno-worker-parent", daemon=True).start()


def _wait_and_exit(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    # There is no clean-up: nothing that this process still does can count, and a handler may be stuck.
    os._exit(0)
