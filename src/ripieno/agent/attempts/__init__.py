"""Attempts: what is known of one, how it is assigned, opened towards a worker, and how its end is written."""
