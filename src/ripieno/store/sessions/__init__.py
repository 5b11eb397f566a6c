"""Sessions, their options and counts, and what a transaction has changed."""
