"""Attempts: their state, how assignments are read, the opening sent to a worker, and how their ends are written."""
