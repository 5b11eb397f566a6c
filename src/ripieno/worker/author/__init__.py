"""What the author of a handler sees of a task."""
