"""Attempts: claimed, confirmed, committed, with the data that they made."""
