"""Handlers: found, run in a thread or on the loop, and what is told of their exceptions."""
