"""Waits of clients, and the notices of changes, here and at other replicas, that end them."""
