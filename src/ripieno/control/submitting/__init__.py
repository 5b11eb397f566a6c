"""Submission of tasks: reading streams, group commit, and the claim of new tasks with waiting credit."""
