"""The task as the author of a handler sees it."""
