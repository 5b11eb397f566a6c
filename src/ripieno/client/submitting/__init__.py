"""Submitting tasks: submissions are cut into calls for small tasks and streams for large ones."""
