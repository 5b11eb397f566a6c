"""Submissions of clients."""
