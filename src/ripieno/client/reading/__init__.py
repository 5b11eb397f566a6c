"""Reading from a session: following and fetching results, and asking for statuses and lists."""
