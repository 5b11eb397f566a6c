"""Sessions, their options and counts, and the changes of transactions."""
