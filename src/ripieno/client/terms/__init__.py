"""What a user's program names: definitions of tasks, handles of tasks and results, errors."""
