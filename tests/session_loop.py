"""Tests of a package that run in the one event loop of the session, as the servers that they share do."""

import inspect
from pathlib import Path

import pytest


def use_session_loop(items: list[pytest.Item], folder: Path) -> None:
    """Mark the asynchronous tests below ``folder`` among ``items``, which are those of the whole run."""
    for item in items:
        if folder in item.path.parents and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
