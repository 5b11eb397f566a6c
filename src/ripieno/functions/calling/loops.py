"""Event loops of the caller, which must not be kept waiting."""

from __future__ import annotations

import asyncio


def in_event_loop() -> bool:
    """Return whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
