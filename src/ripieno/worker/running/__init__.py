"""Handlers: how they are found, run in a thread or on a loop, and how their exceptions are described."""
