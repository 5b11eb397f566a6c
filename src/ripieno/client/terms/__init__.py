"""The terms of a user's program: definitions of tasks, handles of tasks and results, errors."""
