"""The worker's process: its parent, forks of it, and what handlers change in it."""
