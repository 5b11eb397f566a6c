"""What every call goes through: limits, admission, turns, the mapping of errors, streams and batches."""
