"""The life of sessions: pausing and resuming, closing, purging and deleting them, step by step."""
