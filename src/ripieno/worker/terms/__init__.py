"""Errors that a handler raises or meets."""
