"""Following the log of changes: the one look that all followers share, and each follower's way through the log."""
