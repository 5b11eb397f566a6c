"""Submissions on their way to the store."""
