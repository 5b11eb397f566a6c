"""Results, statuses and lists: followed, fetched, asked for."""
