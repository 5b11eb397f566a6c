"""The worker's process: forks of it, and what handlers change in it."""
