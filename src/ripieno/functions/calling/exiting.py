"""What is done when the program's main thread has ended, while its other threads still run."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any


def before_exit(action: Callable[[], object]) -> None:
    """Have a function called when the main thread has ended, before the pools of threads of the standard library end.

    Functions of ``atexit`` come later, when neither these pools nor new threads can be used, which a client needs.
    """
    # What the standard library's own executors use; not public, so without it there is atexit.
    register: Any = getattr(threading, "_register_atexit", atexit.register)
    register(action)
