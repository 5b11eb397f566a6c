"""The handler for payloads that are pickled functions, which it calls.

The payload is ``cloudpickle.dumps((function, args, kwargs))``, the task expects one
output, and that result is the pickled return value. Unpickling runs whatever the payload says:
use this handler only where everyone who may submit may also run programs here.
"""

import cloudpickle

from ripieno.worker.author.task import Task


def handle(task: Task) -> bytes:
    """Call the payload's function and return its pickled value; its exception fails the attempt."""
    function, args, kwargs = cloudpickle.loads(task.payload)
    result: bytes = cloudpickle.dumps(function(*args, **kwargs))
    return result
